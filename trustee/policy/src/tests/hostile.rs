//! Policies and inputs that mean harm: each ends with its error, soon, and without taking the machine's memory.

use std::time::{Duration, Instant};

use cocoon_stage::Code;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::from;
use crate::{Compiled, Error, Kind, MAX_TEXT, default_policy, resource_sample};

/// Compiles and evaluates, with a short limit; the time it may take in all is generous for a loaded machine.
fn run(policy: &str) -> Result<crate::AttestationOutcome, Error> {
    let begun = Instant::now();
    let got = Compiled::with_time_limit(Kind::Attestation, policy, Duration::from_millis(300))
        .and_then(|compiled| compiled.attestation(&json!({"a": "x"}), &from(&json!({}))));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    got
}

fn body(statements: &str) -> String {
    format!("package policy\nimport rego.v1\n{statements}\n")
}

#[test]
fn functions_that_reach_outside_are_refused_when_stored() {
    for call in [
        "http.send({\"method\": \"get\", \"url\": \"http://127.0.0.1\"})",
        "opa.runtime()",
        "net.lookup_ip_addr(\"example.com\")",
        "io.jwt.decode(\"a.b.c\")",
        "crypto.sha256(\"a\")",
        "walk(input)",
        "print(input)",
        "uuid.rfc4122(\"a\")",
        "unheard_of(1)",
        "http[\"send\"]({})",
        "__builtin_sets.union({1}, {2})",
    ] {
        let got =
            Compiled::new(Kind::Attestation, &body(&format!("trust_claims := {{\"hardware\": {call}}}")));
        assert!(matches!(got, Err(Error::Builtin(_))), "{call}: {got:?}");
        assert_eq!(got.unwrap_err().code(), Code::PolicyInvalid);
    }
}

#[test]
fn texts_that_are_no_policies_are_refused() {
    let nested = format!("trust_claims := {}1{}", "[".repeat(400), "]".repeat(400));
    let sum = format!("trust_claims := {{\"hardware\": 1{}}}", " + 1".repeat(5000));
    let lines = format!("trust_claims := {{\"hardware\": 1{}}}", "\n + 1".repeat(5000));
    let steps = format!("trust_claims := input{}", ".a".repeat(5000));
    let texts = [
        String::new(),
        "package policy".into(),
        "package other\ntrust_claims := {\"hardware\": 2}".into(),
        "package policy.deeper\ntrust_claims := {\"hardware\": 2}".into(),
        "package policy\nallow := true".into(),
        "package policy\ntrust_claims := {".into(),
        "package policy\ntrust_claims { true }".into(),
        "package policy\ntrust_claims := \"no end".into(),
        body(&nested),
        body(&sum),
        body(&lines),
        body(&steps),
        body(&"a := 1\n".repeat(20_000)),
    ];
    for text in texts {
        let got = Compiled::new(Kind::Attestation, &text);
        assert!(matches!(got, Err(Error::Invalid(_))), "{:.80}: {got:?}", text);
    }
    let long = format!("package policy\n# {}", "x".repeat(MAX_TEXT));
    assert!(matches!(Compiled::new(Kind::Attestation, &long), Err(Error::TooLong(_))));
}

#[test]
fn endless_recursion_is_refused() {
    for text in [
        "f(x) := f(x + 1)\ntrust_claims := {\"hardware\": f(1)}",
        "f(x) := g(x)\ng(x) := data.policy.f(x)\ntrust_claims := {\"hardware\": f(1)}",
        "f(x) := h(x) with h as f\nh(x) := x\ntrust_claims := {\"hardware\": f(1)}",
    ] {
        let got = run(&body(text));
        assert!(matches!(got, Err(Error::Invalid(_))), "{text}: {got:?}");
    }
    for text in [
        "a := b\nb := a\ntrust_claims := {\"hardware\": a}",
        "f(x) := y if { y := data.policy[x] }\na := f(\"a\")\ntrust_claims := {\"hardware\": a}",
    ] {
        let got = run(&body(text));
        assert!(got.is_err(), "{text}: {got:?}");
    }
}

#[test]
fn deep_chains_of_rules_and_functions_fit_the_stack() {
    let rules: String = (0..2000).map(|n| format!("r{n} := [r{}]\n", n + 1)).collect();
    let got = run(&body(&format!("{rules}r2000 := 1\ntrust_claims := {{\"hardware\": 2}} if r0")));
    assert!(!matches!(got, Ok(ref outcome) if outcome.vector.hardware != 2), "{got:?}");
    let functions: String = (0..2000).map(|n| format!("f{n}(x) := f{}(x)\n", n + 1)).collect();
    let got = run(&body(&format!("{functions}f2000(x) := x\ntrust_claims := {{\"hardware\": f0(2)}}")));
    assert!(!matches!(got, Ok(ref outcome) if outcome.vector.hardware != 2), "{got:?}");
    let locals: String = (0..6000).map(|n| format!("x{} := [x{n}]\n", n + 1)).collect();
    let got = run(&body(&format!("trust_claims := {{\"hardware\": 2}} if {{\nx0 := 1\n{locals}}}")));
    assert!(!matches!(got, Ok(ref outcome) if outcome.vector.hardware != 2), "{got:?}");
}

#[test]
fn huge_results_are_refused() {
    let doubling: String = (0..60).map(|n| format!("x{} := concat(\"\", [x{n}, x{n}])\n", n + 1)).collect();
    let marshal: String = (0..60).map(|n| format!("x{} := [x{n}, x{n}]\n", n + 1)).collect();
    for statements in [
        "x := numbers.range(1, 1000000000000)".to_owned(),
        "x := [1 | some i in numbers.range(0, 100000000)]".into(),
        "x := sprintf(\"%1000000000d\", [1])".into(),
        "x := bits.lsh(1, 4000000000)".into(),
        "x := replace(concat(\"\", [c | some i in numbers.range(1, 20000); c := \"aaaaaaaaaa\"]), \"\", \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\")".into(),
        format!("x0 := \"aaaaaaaa\"\n{doubling}x := x60"),
        format!("x0 := \"aaaaaaaa\"\n{marshal}x := json.marshal(x60)"),
    ] {
        let got = run(&body(&format!("trust_claims := {{\"hardware\": 2}} if {{\n{statements}\nx\n}}")));
        assert!(matches!(got, Err(Error::Memory(_))), "{statements:.60}: {got:?}");
        assert_eq!(got.unwrap_err().code(), Code::PolicyFailed);
    }
    let small: String = (0..20).map(|n| format!("x{} := [x{n}, x{n}]\n", n + 1)).collect();
    let shared = body(&format!(
        "trust_claims := {{\"hardware\": 2}}\nextensions := [{{\"name\": \"a\", \"key\": 1, \"value\": v}}] if {{\nx0 := \"a\"\n{small}v := x20\n}}"
    ));
    let got = run(&shared);
    assert!(matches!(got, Err(Error::Answer(_) | Error::Time(_))), "{got:?}");
}

#[test]
fn endless_work_ends() {
    for statements in [
        "r := numbers.range(1, 20000)\nx := [1 | some a in r; some b in r; some c in r; a + b + c < 0]",
        "r := numbers.range(1, 20000)\nevery a in r { every b in r { a + b > 0 } }\nx := 1",
        "r := numbers.range(1, 20000)\nx := {[a, b] | some a in r; some b in r; a < 0}",
    ] {
        let got = run(&body(&format!("trust_claims := {{\"hardware\": 2}} if {{\n{statements}\nx\n}}")));
        assert!(matches!(got, Err(Error::Time(_))), "{statements:.60}: {got:?}");
    }
}

#[test]
fn a_policy_stuck_in_one_step_is_given_up_and_not_run_again() {
    let chain = |name: &str| -> String {
        (0..30).map(|n| format!("{name}{} := [{name}{n}, {name}{n}]\n", n + 1)).collect()
    };
    let (left, right) = (chain("a"), chain("b"));
    let text = body(&format!(
        "trust_claims := {{\"hardware\": 2}} if {{\na0 := input.a\nb0 := concat(\"\", [\"x\"])\n{left}{right}a30 == b30\n}}"
    ));
    let limit = Duration::from_millis(200);
    let compiled = Compiled::with_time_limit(Kind::Attestation, &text, limit).unwrap();
    // 2^30 comparisons take long; should the engine ever learn to shorten them, the answer is a plain one.
    let got = compiled.attestation(&json!({"a": "x"}), &from(&json!({})));
    if matches!(got, Err(Error::Time(_))) {
        let begun = Instant::now();
        let again = compiled.attestation(&json!({"a": "x"}), &from(&json!({})));
        assert!(matches!(again, Err(Error::Time(_))), "{again:?}");
        assert!(begun.elapsed() < limit);
    } else {
        assert_eq!(got.unwrap().vector.hardware, 2);
    }
}

#[test]
fn inputs_have_bounds() {
    let compiled = Compiled::new(Kind::Resource, resource_sample("default").unwrap()).unwrap();
    let data = json!({"plugin": "resource"});
    let large = json!({"a": "x".repeat(crate::MAX_INPUT)});
    assert!(matches!(compiled.resource(&data, &large), Err(Error::Input(_))));
    let mut deep = json!(1);
    for _ in 0..200 {
        deep = json!([deep]);
    }
    assert!(matches!(compiled.resource(&data, &deep), Err(Error::Input(_))));
}

#[test]
fn one_policy_serves_many_threads() {
    let compiled = Compiled::new(Kind::Attestation, default_policy("cpu").unwrap()).unwrap();
    let values = json!({"snp_launch_measurement": ["aa"]});
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (compiled, values) = (&compiled, &values);
            scope.spawn(move || {
                let (name, expected) = if n % 2 == 0 { ("aa", 3) } else { ("bb", 33) };
                for _ in 0..20 {
                    let input = json!({"snp": {"measurement": name}});
                    let got = compiled.attestation(&input, &from(values)).unwrap();
                    assert_eq!(got.vector.executables, expected);
                }
            });
        }
    });
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z\"\\\\$%{}\u{0}-\u{1f}é]{0,12}".prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("snp".to_owned()),
        Just("tdx".into()),
        Just("se".into()),
        Just("sample".into()),
        Just("nvidia".into()),
        Just("quote".into()),
        Just("body".into()),
        Just("uefi_event_logs".into()),
        Just("details".into()),
        Just("digests".into()),
        Just("device_paths".into()),
        Just("submods".into()),
        Just("ear.status".into()),
        Just("init_data_claims".into()),
        Just("agent_policy_claims".into()),
        Just("containers".into()),
        Just("measurement".into()),
        "[a-z]{1,6}",
    ];
    leaf.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::hash_map(name.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_input_is_affirmed_without_reference_values_or_panics(input in any_json()) {
        for class in ["cpu", "dcu", "nvidia-dpu"] {
            if let Ok(outcome) = super::appraise(class, &input, &json!({})) {
                prop_assert_eq!(outcome.vector.executables, 33);
                prop_assert_eq!(outcome.vector.hardware, 97);
            }
        }
        let compiled = Compiled::new(Kind::Resource, resource_sample("default").unwrap()).unwrap();
        drop(compiled.resource(&json!({"plugin": "resource"}), &input));
    }

    #[test]
    fn no_text_panics(text in "(package policy\n)?[a-z (){}\\[\\]:=\",.;|+\n`#0-9éf]{0,200}") {
        drop(Compiled::new(Kind::Attestation, &text));
    }
}
