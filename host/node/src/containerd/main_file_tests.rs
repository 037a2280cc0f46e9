use proptest::prelude::*;

use super::*;

const PATTERN: &str = "/etc/containerd/conf.d/cocoon*.toml";
const CRI: &str = "io.containerd.grpc.v1.cri";

fn everything() -> Additions {
    Additions {
        import: Some(PATTERN.into()),
        block: Some("[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.cocoon]\nx = 1\n".into()),
        annotate_snapshots: Some(CRI.into()),
    }
}

#[test]
fn imports_are_added_wherever_they_fit_and_taken_out_again() {
    let only = Additions { import: Some(PATTERN.into()), ..Additions::default() };
    for (text, expected) in [
        ("version = 3\n", "imports = [\"P\"] # added by `cocoon node install`\nversion = 3\n"),
        ("version = 3", "imports = [\"P\"] # added by `cocoon node install`\nversion = 3"),
        ("", "imports = [\"P\"] # added by `cocoon node install`\n"),
        (
            "# c\n\n  version = 2 # two\n[a]\n",
            "# c\n\nimports = [\"P\"] # added by `cocoon node install`\n  version = 2 # two\n[a]\n",
        ),
        ("imports = [\"a\"]\n", "imports = [\"P\", \"a\"]\n"),
        ("imports = []\n", "imports = [\"P\"]\n"),
        ("imports = [ # why\n]\n[x]\n", "imports = [\"P\" # why\n]\n[x]\n"),
        ("imports = [\n  'a', # first\n  'b',\n]\n", "imports = [\"P\", \n  'a', # first\n  'b',\n]\n"),
        (
            "version = 2\r\nroot = 'x'\r\n",
            "imports = [\"P\"] # added by `cocoon node install`\r\nversion = 2\r\nroot = 'x'\r\n",
        ),
        (
            "\u{feff}version = 2\n",
            "\u{feff}imports = [\"P\"] # added by `cocoon node install`\nversion = 2\n",
        ),
    ] {
        let edited = edit(text, &only).unwrap();
        assert_eq!(edited, expected.replace("\"P\"", &format!("\"{PATTERN}\"")), "{text:?}");
        assert_eq!(strip(&edited, PATTERN), text);
        assert_eq!(imports(&edited).first().map(String::as_str), Some(PATTERN));
    }
}

#[test]
fn a_block_goes_to_the_end_and_the_annotation_into_its_table() {
    for text in [
        "version = 2\n",
        "version = 2",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\nsnapshotter = 'x'\n",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]",
        "version = 2\n[plugins]\n  [plugins.'io.containerd.grpc.v1.cri']\n    [plugins.'io.containerd.grpc.v1.cri'.containerd] # x\n",
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndisable_snapshot_annotations = true # why\n",
        "version = 2\r\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\r\ndisable_snapshot_annotations = false\r\n",
    ] {
        let edited = edit(text, &everything()).unwrap();
        let table: Table = edited.parse().unwrap();
        let containerd = &table["plugins"][CRI]["containerd"];
        assert_eq!(containerd["disable_snapshot_annotations"].as_bool(), Some(false), "{edited}");
        assert_eq!(containerd["runtimes"]["cocoon"]["x"].as_integer(), Some(1));
        assert_eq!(strip(&edited, PATTERN), text);
        assert!(is_edited(&edited) && !is_edited(text));
        assert_eq!(edit(&strip(&edited, PATTERN), &everything()).unwrap(), edited);
    }
}

#[test]
fn forms_that_leave_no_place_are_refused() {
    for text in [
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\ncontainerd = { runtimes = { runc = { a = 1 } } }\n",
        "plugins = { \"io.containerd.grpc.v1.cri\" = {} }\n",
        "imports = 'x'\n",
        "= =",
    ] {
        assert!(edit(text, &everything()).is_err(), "{text}");
    }
    assert!(version("a = [").is_err() && version("version = 'x'").is_err());
    assert_eq!((version(""), version("version = 3")), (Ok(1), Ok(3)));
}

#[test]
fn what_a_person_wrote_since_stays() {
    let edited = edit("version = 2\n", &everything()).unwrap();
    let changed = format!("# mine\n{edited}[debug]\nlevel = 'debug'\n");
    assert_eq!(strip(&changed, PATTERN), "# mine\nversion = 2\n[debug]\nlevel = 'debug'\n");
    let cut = edited.replace(END, "");
    assert!(strip(&cut, PATTERN).contains("runtimes.cocoon"), "a block without its end is left");
}

#[test]
fn runtimes_of_the_text_itself_are_listed() {
    let text = "[plugins.cri.containerd.runtimes.a]\n[plugins.cri.containerd.runtimes.b.options]\n";
    assert_eq!(runtimes(text, "cri"), ["a", "b"]);
    assert!(runtimes(text, CRI).is_empty() && runtimes("=", CRI).is_empty());
}

proptest! {
    #[test]
    fn taking_out_gives_the_text_back(
        lines in proptest::collection::vec("(version = [23]|imports = \\['[a-z]', *'b'\\]|# [a-z`]*|\\[[a-c]\\]|[d-h] = [0-9]|)", 0..12),
        crlf: bool,
        end: bool,
    ) {
        let eol = if crlf { "\r\n" } else { "\n" };
        let mut text = lines.join(eol);
        if end { text.push_str(eol); }
        // Only what is TOML is edited; what is not is refused, never damaged.
        if let Ok(edited) = edit(&text, &everything()) {
            prop_assert_eq!(strip(&edited, PATTERN), text);
        } else {
            prop_assert!(text.parse::<Table>().is_err() || imports(&text).is_empty());
        }
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,200}") {
        let _ = edit(&text, &everything());
        let _ = strip(&text, PATTERN);
        let _ = version(&text);
    }
}
