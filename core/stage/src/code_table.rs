//! What becomes of the table of codes: the enum, and what is known of each.

/// `Variant = "TEXT", Stage, "what happened", "what to do";` for each code.
macro_rules! codes {
    ($( $variant:ident = $text:literal, $stage:ident, $what:literal, $next:literal; )*) => {
        /// A stable error code. The text never changes its meaning once released.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum Code {
            $( #[doc = $what] #[serde(rename = $text)] $variant, )*
        }

        impl Code {
            /// All codes, in the order of the table.
            pub const ALL: &'static [Code] = &[ $( Code::$variant, )* ];

            /// The code as printed, e.g. `ATTEST-MEASUREMENT-UNKNOWN`.
            pub fn as_str(self) -> &'static str {
                match self { $( Code::$variant => $text, )* }
            }

            /// The stage at which it usually happens.
            pub fn stage(self) -> Stage {
                match self { $( Code::$variant => Stage::$stage, )* }
            }

            /// One sentence on what happened.
            pub fn summary(self) -> &'static str {
                match self { $( Code::$variant => $what, )* }
            }

            /// One sentence on what to do.
            pub fn next_step(self) -> &'static str {
                match self { $( Code::$variant => $next, )* }
            }
        }
    };
}
