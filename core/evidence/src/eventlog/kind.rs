//! Types of events.
//!
//! Source: TCG PC Client Platform Firmware Profile 1.06, section 10.4.1, table of event types.

/// A type of event that is known here. The type is not measured: it is what the log's sender says of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventType(u32);

macro_rules! types {
    ($( $name:ident = $id:literal; )*) => {
        impl EventType {
            $(
                #[doc = concat!("`EV_", stringify!($name), "`")]
                pub const $name: EventType = EventType($id);
            )*

            /// By its number; `None` where it is not known.
            pub fn from_id(id: u32) -> Option<Self> {
                match id {
                    $( $id => Some(EventType::$name), )*
                    _ => None,
                }
            }

            /// Its name in claims, e.g. `EV_SEPARATOR`.
            pub fn name(self) -> &'static str {
                match self.0 {
                    $( $id => concat!("EV_", stringify!($name)), )*
                    // Cannot be: the number is private and comes from this table.
                    _ => "EV_UNKNOWN",
                }
            }
        }
    };
}

types! {
    PREBOOT_CERT = 0x0;
    POST_CODE = 0x1;
    UNUSED = 0x2;
    NO_ACTION = 0x3;
    SEPARATOR = 0x4;
    ACTION = 0x5;
    EVENT_TAG = 0x6;
    S_CRTM_CONTENTS = 0x7;
    S_CRTM_VERSION = 0x8;
    CPU_MICROCODE = 0x9;
    PLATFORM_CONFIG_FLAGS = 0xa;
    TABLE_OF_DEVICES = 0xb;
    COMPACT_HASH = 0xc;
    IPL = 0xd;
    IPL_PARTITION_DATA = 0xe;
    NONHOST_CODE = 0xf;
    NONHOST_CONFIG = 0x10;
    NONHOST_INFO = 0x11;
    OMIT_BOOT_DEVICE_EVENTS = 0x12;
    POST_CODE2 = 0x13;
    EFI_EVENT_BASE = 0x8000_0000;
    EFI_VARIABLE_DRIVER_CONFIG = 0x8000_0001;
    EFI_VARIABLE_BOOT = 0x8000_0002;
    EFI_BOOT_SERVICES_APPLICATION = 0x8000_0003;
    EFI_BOOT_SERVICES_DRIVER = 0x8000_0004;
    EFI_RUNTIME_SERVICES_DRIVER = 0x8000_0005;
    EFI_GPT_EVENT = 0x8000_0006;
    EFI_ACTION = 0x8000_0007;
    EFI_PLATFORM_FIRMWARE_BLOB = 0x8000_0008;
    EFI_HANDOFF_TABLES = 0x8000_0009;
    EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000_000a;
    EFI_HANDOFF_TABLES2 = 0x8000_000b;
    EFI_VARIABLE_BOOT2 = 0x8000_000c;
    EFI_GPT_EVENT2 = 0x8000_000d;
    EFI_HCRTM_EVENT = 0x8000_0010;
    EFI_VARIABLE_AUTHORITY = 0x8000_00e0;
    EFI_SPDM_FIRMWARE_BLOB = 0x8000_00e1;
    EFI_SPDM_FIRMWARE_CONFIG = 0x8000_00e2;
    EFI_SPDM_DEVICE_POLICY = 0x8000_00e3;
    EFI_SPDM_DEVICE_AUTHORITY = 0x8000_00e4;
}

impl EventType {
    /// Its number.
    pub fn id(self) -> u32 {
        self.0
    }

    /// Whether its events extend a register.
    pub fn is_measured(self) -> bool {
        self != EventType::NO_ACTION
    }

    /// Whether the digest is the hash of the event's data by specification, without an exception that real firmware makes
    /// use of: an event of such a type whose data has another hash has been given other data by somebody.
    ///
    /// Left out on purpose: `EV_EFI_VARIABLE_BOOT` (EDK II measures the variable's value alone),
    /// `EV_EFI_VARIABLE_AUTHORITY` (boot loaders put other things there), `EV_IPL` (no rule).
    pub fn is_hash_of_data(self) -> bool {
        matches!(
            self,
            EventType::SEPARATOR
                | EventType::ACTION
                | EventType::EFI_ACTION
                | EventType::EFI_VARIABLE_DRIVER_CONFIG
        )
    }
}
