//! References to variables, `$(NAME)`, as Kubernetes expands them (`k8s.io/kubernetes/third_party/forked/golang/expansion`).

/// What a name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Variable {
    /// This.
    Is(String),
    /// What the cluster says, once the pod starts.
    Open,
    /// Nothing: the reference stays as it is.
    Unknown,
}

/// The name of a variable that only the cluster knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenReference(pub(crate) String);

/// The text with what its references stand for. `$$` is a dollar.
pub(crate) fn expand(text: &str, variable: impl Fn(&str) -> Variable) -> Result<String, OpenReference> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let mut chars = after.chars();
        match chars.next() {
            Some('$') => {
                out.push('$');
                rest = chars.as_str();
            }
            Some('(') => match chars.as_str().split_once(')') {
                Some((name, after)) => {
                    match variable(name) {
                        Variable::Is(value) => out.push_str(&value),
                        Variable::Open => return Err(OpenReference(name.to_owned())),
                        Variable::Unknown => {
                            out.push_str("$(");
                            out.push_str(name);
                            out.push(')');
                        }
                    }
                    rest = after;
                }
                None => {
                    out.push_str("$(");
                    rest = chars.as_str();
                }
            },
            _ => {
                out.push('$');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_kubernetes_does_it() {
        let known = |name: &str| match name {
            "A" => Variable::Is("a".into()),
            "B" => Variable::Is("$(A)".into()),
            "EMPTY" => Variable::Is(String::new()),
            "IP" => Variable::Open,
            _ => Variable::Unknown,
        };
        for (text, is) in [
            ("", ""),
            ("plain", "plain"),
            ("$(A)", "a"),
            ("x$(A)y$(A)", "xaya"),
            ("$(B)", "$(A)"),
            ("$(EMPTY)|", "|"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$a"),
            ("$$$$(A)", "$$(A)"),
            ("$(UNKNOWN)", "$(UNKNOWN)"),
            ("$(A", "$(A"),
            ("$(", "$("),
            ("$", "$"),
            ("$$", "$"),
            ("$A", "$A"),
            ("a$", "a$"),
            ("$(A)$", "a$"),
            ("$()", "$()"),
            ("$(A $(A)", "$(A $(A)"),
            ("ü$(A)ü", "üaü"),
        ] {
            assert_eq!(expand(text, known).as_deref(), Ok(is), "{text:?}");
        }
        assert_eq!(expand("http://$(IP):80", known), Err(OpenReference("IP".into())));
        assert_eq!(expand("$$(IP)", known).as_deref(), Ok("$(IP)"));
    }
}
