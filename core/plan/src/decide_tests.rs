use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::types::tests::sample;

fn plan_of(kinds: &[(&str, ContainerKind, Restart)]) -> Plan {
    let mut plan = sample();
    let first = plan.containers[0].clone();
    let container = |(name, kind, restart): &(&str, ContainerKind, Restart)| {
        let mut c = first.clone();
        (c.name, c.kind, c.restart) = ((*name).to_owned(), *kind, *restart);
        c
    };
    plan.containers = kinds.iter().map(container).collect();
    plan
}

fn sandbox(kinds: &[(&str, ContainerKind, Restart)]) -> Sandbox {
    Sandbox::new(plan_of(kinds))
}

fn run(s: &mut Sandbox, id: &str, name: &str, status: u32) -> Result<(), Failure> {
    s.create(id, name)?;
    s.start(id)?;
    s.ended(id, status);
    s.remove(id)
}

use ContainerKind::{App, Ephemeral, Init, Sidecar};
use Restart::{Always, Never, OnFailure};

#[test]
fn the_life_of_a_container() {
    let mut s = sandbox(&[("main", App, Never)]);
    assert_eq!(s.create("0f", "main").unwrap().args, ["/bin/true"]);
    s.start("0f").unwrap();
    s.signal("0f", 15).unwrap();
    s.ended("0f", 3);
    assert_eq!(s.phase("0f"), Some(Phase::Ended(3)));
    assert!(s.signal("0f", 15).is_err());
    s.remove("0f").unwrap();
    assert_eq!(s.phase("0f"), None);
    assert!(s.create("1f", "main").is_err(), "it may not run again");
}

#[test]
fn everything_else_is_refused_with_the_code() {
    let mut s = sandbox(&[("main", App, Never), ("second", App, Never)]);
    let refusals = [
        s.create("a", "evil").map(|_| ()).unwrap_err(),
        s.create("", "main").map(|_| ()).unwrap_err(),
        s.create("..", "main").map(|_| ()).unwrap_err(),
        s.create("a/b", "main").map(|_| ()).unwrap_err(),
        s.create(&"a".repeat(129), "main").map(|_| ()).unwrap_err(),
        s.start("a").unwrap_err(),
        s.remove("a").unwrap_err(),
        s.signal("a", 9).unwrap_err(),
    ];
    assert!(refusals.iter().all(|f| f.code == Code::PlanRequestRefused));
    s.create("a", "main").unwrap();
    assert!(s.create("b", "main").is_err(), "beside a live one");
    assert!(s.create("a", "second").is_err(), "the id is taken");
    s.start("a").unwrap();
    assert!(s.start("a").is_err(), "twice");
    assert!(s.remove("a").is_err(), "running");
    assert!(s.create("b", "main").is_err(), "beside a running one");
    for number in [0, 65, u32::MAX] {
        assert!(s.signal("a", number).is_err());
    }
    s.create("b", "second").unwrap();
}

#[test]
fn what_never_started_may_be_asked_for_again() {
    let mut s = sandbox(&[("main", App, Never)]);
    s.create("a", "main").unwrap();
    s.create_failed("a");
    s.create("a", "main").unwrap();
    s.remove("a").unwrap();
    s.create("b", "main").unwrap();
    s.ended("b", 137);
    s.remove("b").unwrap();
    assert!(s.needs_image("main"));
    s.create("c", "main").unwrap();
    s.start("c").unwrap();
    assert!(!s.needs_image("main"));
    s.create_failed("c");
    assert_eq!(s.phase("c"), Some(Phase::Running), "only before it started");
}

#[test]
fn no_id_comes_to_mean_something_else() {
    let mut plan = plan_of(&[("main", App, Always), ("other", App, Always)]);
    plan.containers[0].exec.any = true;
    let mut s = Sandbox::new(plan);
    let sh = words("sh");
    s.create("a", "main").unwrap();
    s.start("a").unwrap();
    s.exec("a", "e", &ask(&sh, false, false)).unwrap();
    s.exec_remove("a", "e").unwrap();
    let again = s.exec("a", "e", &ask(&sh, false, false)).unwrap_err();
    assert!(again.reason.contains("used before"), "{again}");
    s.exec("a", "f", &ask(&sh, false, false)).unwrap();
    s.ended("a", 0);
    s.remove("a").unwrap();
    for name in ["main", "other"] {
        assert!(s.create("a", name).unwrap_err().reason.contains("used before"), "{name}");
    }
    // A new instance has ids of its own, and what probes use up is no end of them.
    s.create("b", "main").unwrap();
    s.start("b").unwrap();
    for i in 0..2 * used::REMEMBERED {
        let id = i.to_string();
        s.exec("b", &id, &ask(&sh, false, false)).unwrap();
        s.exec_remove("b", &id).unwrap();
    }
    s.exec("b", "e", &ask(&sh, false, false)).unwrap();
    for i in 0..2 * used::REMEMBERED {
        run(&mut s, &format!("other-{i}"), "other", 1).unwrap();
    }
}

#[test]
fn restarts_are_as_the_plan_says() {
    for (restart, after_success, after_failure) in
        [(Never, false, false), (OnFailure, false, true), (Always, true, true)]
    {
        for (status, again) in [(0, after_success), (1, after_failure)] {
            let mut s = sandbox(&[("main", App, restart)]);
            run(&mut s, "a", "main", status).unwrap();
            assert_eq!(s.needs_image("main"), again, "{restart:?} {status}");
            assert_eq!(s.create("b", "main").is_ok(), again, "{restart:?} {status}");
        }
    }
    let mut s = sandbox(&[("main", App, Always)]);
    s.create("a", "main").unwrap();
    s.start("a").unwrap();
    assert!(s.needs_image("main"));
    s.ended("a", 0);
    s.create("b", "main").unwrap();
    s.remove("a").unwrap();
}

#[test]
fn init_containers_come_first_and_end_well() {
    let kinds =
        [("one", Init, OnFailure), ("two", Init, Never), ("side", Sidecar, Always), ("main", App, Always)];
    let mut s = sandbox(&kinds);
    for later in ["two", "side", "main"] {
        assert!(s.create("x", later).is_err(), "{later}");
    }
    run(&mut s, "a", "one", 1).unwrap();
    assert!(s.create("x", "two").is_err(), "the first one failed");
    s.create("b", "one").unwrap();
    s.start("b").unwrap();
    assert!(s.create("x", "two").is_err(), "the first one runs still");
    s.ended("b", 0);
    assert!(s.create("c", "one").is_err(), "it is through");
    run(&mut s, "c", "two", 0).unwrap();
    assert!(s.create("x", "main").is_err(), "the sidecar comes first");
    s.create("d", "side").unwrap();
    assert!(s.create("x", "main").is_err(), "the sidecar has not started");
    s.start("d").unwrap();
    s.create("e", "main").unwrap();
    s.ended("d", 1);
    run(&mut s, "f", "side", 0).unwrap();
    assert!(!s.needs_image("one") && s.needs_image("side"));
}

#[test]
fn an_init_container_that_may_not_fail_ends_the_pod() {
    let mut s = sandbox(&[("one", Init, Never), ("main", App, Never)]);
    run(&mut s, "a", "one", 2).unwrap();
    assert!(s.create("b", "one").is_err() && s.create("b", "main").is_err());
}

#[test]
fn ephemeral_containers_run_once_each_and_at_any_time() {
    let mut s = sandbox(&[("one", Init, Never), ("debug", Ephemeral, Always), ("debug-x", App, Never)]);
    run(&mut s, "a", "debug", 0).unwrap();
    assert!(s.create("b", "debug").is_err(), "once");
    run(&mut s, "b", "debug-7f2", 0).unwrap();
    assert!(s.create("c", "debug-7f2").is_err(), "once");
    for bad in ["debug-", "debug7", "debug-/..", "xdebug-1", "debug-x"] {
        assert!(s.create("c", bad).is_err(), "{bad}");
    }
    for i in 0..MAX_EPHEMERAL - 2 {
        run(&mut s, &format!("n{i}"), &format!("debug-n{i}"), 0).unwrap();
    }
    assert!(s.create("c", "debug-more").unwrap_err().reason.contains("like it"));
    assert!(s.needs_image("debug"));
}

fn ask(args: &[String], terminal: bool, stdin: bool) -> ExecRequest<'_> {
    ExecRequest { args, terminal, stdin }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(String::from).collect()
}

#[test]
fn only_what_the_plan_lists_runs_beside_the_program() {
    let mut plan = plan_of(&[("main", App, Never), ("open", App, Never), ("shut", App, Never)]);
    plan.containers[0].exec.commands = vec![words("/bin/probe -q"), words("ls")];
    plan.containers[1].exec.any = true;
    let mut s = Sandbox::new(plan);
    let plain = words("/bin/probe -q");
    assert!(s.exec("main", "e", &ask(&plain, false, false)).is_err(), "not created");
    for name in ["main", "open", "shut"] {
        s.create(name, name).unwrap();
        assert!(s.exec(name, "e", &ask(&plain, false, false)).is_err(), "not running");
        s.start(name).unwrap();
    }
    s.exec("main", "e", &ask(&plain, false, false)).unwrap();
    assert!(s.exec("main", "e", &ask(&plain, false, false)).is_err(), "the id is taken");
    for (args, terminal, stdin) in [
        ("/bin/probe", false, false),
        ("/bin/probe -q -q", false, false),
        ("probe -q", false, false),
        ("/bin/probe -q", true, false),
        ("/bin/probe -q", false, true),
        ("sh", false, false),
        ("", false, false),
    ] {
        let refusal = s.exec("main", "f", &ask(&words(args), terminal, stdin)).unwrap_err();
        assert!(refusal.reason.contains("does not allow"), "{refusal}");
        assert!(!refusal.reason.contains("ls"), "the reason speaks of the request only: {refusal}");
    }
    assert!(s.exec("shut", "e", &ask(&plain, false, false)).is_err());
    s.exec("open", "e", &ask(&words("sh -i"), true, true)).unwrap();
    assert!(s.exec("open", "f", &ask(&[], true, true)).is_err(), "no program");
    assert!(s.exec("open", "../e", &ask(&plain, false, false)).is_err());

    assert!(s.exec_signal("open", "e", 9).is_err(), "not started");
    s.exec_start("open", "e").unwrap();
    assert!(s.exec_start("open", "e").is_err(), "twice");
    assert!(s.exec_remove("open", "e").is_err(), "running");
    s.exec_signal("open", "e", 9).unwrap();
    s.exec_ended("open", "e", 137);
    assert_eq!(s.exec_phase("open", "e"), Some(Phase::Ended(137)));
    s.exec_remove("open", "e").unwrap();
    assert!(s.exec_remove("open", "e").is_err());
    s.ended("main", 0);
    assert!(s.exec_start("main", "e").is_err(), "its container has ended");
    s.exec_remove("main", "e").unwrap();
    assert!(s.exec("main", "g", &ask(&plain, false, false)).is_err());

    for i in 0..MAX_EXECS {
        s.exec("open", &i.to_string(), &ask(&plain, false, false)).unwrap();
    }
    assert!(s.exec("open", "more", &ask(&plain, false, false)).unwrap_err().reason.contains("64 others"));
}

#[derive(Clone, Debug)]
enum Ask {
    Create(usize, usize),
    CreateFailed(usize),
    Start(usize),
    Ended(usize, u32),
    Remove(usize),
    Exec(usize, usize),
    ExecStart(usize, usize),
    ExecEnded(usize, usize),
    ExecRemove(usize, usize),
}

fn asks() -> impl Strategy<Value = Ask> {
    let (id, name) = (0..8_usize, 0..6_usize);
    prop_oneof![
        4 => (id.clone(), name.clone()).prop_map(|(i, n)| Ask::Create(i, n)),
        1 => id.clone().prop_map(Ask::CreateFailed),
        4 => id.clone().prop_map(Ask::Start),
        4 => (id.clone(), 0..2_u32).prop_map(|(i, s)| Ask::Ended(i, s)),
        3 => id.clone().prop_map(Ask::Remove),
        1 => (id.clone(), id.clone()).prop_map(|(i, e)| Ask::Exec(i, e)),
        1 => (id.clone(), id.clone()).prop_map(|(i, e)| Ask::ExecStart(i, e)),
        1 => (id.clone(), id.clone()).prop_map(|(i, e)| Ask::ExecEnded(i, e)),
        1 => (id.clone(), id.clone()).prop_map(|(i, e)| Ask::ExecRemove(i, e)),
    ]
}

const NAMES: [&str; 6] = ["one", "two", "side", "main", "debug", "debug-1"];

/// What an observer outside the state machine has seen succeed.
#[derive(Default)]
struct Seen {
    live: BTreeMap<String, String>,
    started: BTreeMap<String, Vec<Option<u32>>>,
    removed: BTreeSet<String>,
}

impl Seen {
    fn check_start(&self, plan: &Plan, name: &str) {
        let runs = |n: &str| self.started.get(n).cloned().unwrap_or_default();
        let kind = |n: &str| plan.container(n).map_or(Ephemeral, |c| c.kind);
        let before = runs(name);
        let restart = plan.container(name).map_or(Never, |c| c.restart);
        assert!(before.is_empty() || restart != Never, "{name} ran again");
        assert!(restart != OnFailure || before.last() != Some(&Some(0)), "{name} ran again after success");
        assert!(kind(name) != Init || !before.contains(&Some(0)), "{name} is through");
        if kind(name) == Ephemeral {
            assert!(before.is_empty(), "{name} ran twice");
            return;
        }
        for earlier in plan.containers.iter().take_while(|c| c.name != name) {
            match earlier.kind {
                Init => {
                    assert_eq!(runs(&earlier.name).last(), Some(&Some(0)), "{name} before {}", earlier.name)
                }
                Sidecar => assert!(!runs(&earlier.name).is_empty(), "{name} before {}", earlier.name),
                App | Ephemeral => {}
            }
        }
    }
}

proptest! {
    #[test]
    fn no_order_of_requests_breaks_the_rules(
        list in proptest::collection::vec(asks(), 0..120),
        restarts in proptest::collection::vec(0..3_usize, 4),
    ) {
        let rule = |i: usize| [Never, OnFailure, Always][restarts[i]];
        let mut plan = plan_of(&[
            ("one", Init, rule(0)), ("two", Init, rule(1)), ("side", Sidecar, rule(2)), ("main", App, rule(3)),
            ("debug", Ephemeral, Always),
        ]);
        for c in &mut plan.containers { c.exec.any = true; }
        let mut s = Sandbox::new(plan.clone());
        let mut seen = Seen::default();
        let sh = words("sh");
        for ask in list {
            match ask {
                Ask::Create(i, n) => if s.create(&i.to_string(), NAMES[n]).is_ok() {
                    let twice = seen.live.values().any(|name| name == NAMES[n]);
                    prop_assert!(!twice, "two live instances of {}", NAMES[n]);
                    prop_assert!(!seen.removed.contains(&i.to_string()), "{i} means another");
                    seen.live.insert(i.to_string(), NAMES[n].to_owned());
                },
                Ask::CreateFailed(i) => {
                    s.create_failed(&i.to_string());
                    if s.phase(&i.to_string()).is_none() { seen.live.remove(&i.to_string()); }
                }
                Ask::Start(i) => if s.start(&i.to_string()).is_ok() {
                    let name = seen.live[&i.to_string()].clone();
                    seen.check_start(&plan, &name);
                    seen.started.entry(name).or_default().push(None);
                },
                Ask::Ended(i, status) => {
                    let ran = s.phase(&i.to_string()) == Some(Phase::Running);
                    s.ended(&i.to_string(), status);
                    if let Some(name) = seen.live.remove(&i.to_string()).filter(|_| ran) {
                        *seen.started.get_mut(&name).unwrap().last_mut().unwrap() = Some(status);
                    }
                }
                Ask::Remove(i) => if s.remove(&i.to_string()).is_ok() {
                    seen.live.remove(&i.to_string());
                    seen.removed.insert(i.to_string());
                },
                Ask::Exec(i, e) => {
                    let request = ExecRequest { args: &sh, terminal: true, stdin: true };
                    let running = s.phase(&i.to_string()) == Some(Phase::Running);
                    let allowed = s.exec(&i.to_string(), &e.to_string(), &request).is_ok();
                    prop_assert!(running || !allowed);
                }
                Ask::ExecStart(i, e) => {
                    let running = s.phase(&i.to_string()) == Some(Phase::Running);
                    prop_assert!(running || s.exec_start(&i.to_string(), &e.to_string()).is_err());
                    let _ = s.exec_start(&i.to_string(), &e.to_string());
                }
                Ask::ExecEnded(i, e) => s.exec_ended(&i.to_string(), &e.to_string(), 1),
                Ask::ExecRemove(i, e) => drop(s.exec_remove(&i.to_string(), &e.to_string())),
            }
        }
    }

    #[test]
    fn hostile_texts_never_panic(id in ".{0,140}", name in ".{0,140}", args in proptest::collection::vec(".{0,80}", 0..4)) {
        let mut s = sandbox(&[("main", App, Never), ("debug", Ephemeral, Never)]);
        let _ = s.create(&id, &name);
        let _ = s.create(&id, &format!("debug-{name}"));
        s.create("ok", "main").unwrap();
        s.start("ok").unwrap();
        let _ = s.exec("ok", &id, &ExecRequest { args: &args, terminal: false, stdin: true });
    }
}
