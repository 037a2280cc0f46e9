//! Profiles as they are written in the field, profiles that are refused, and the compiled program against the meaning.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::seccomp::tests::verdict;
use super::assemble::NATIVE;
use super::*;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const EPERM: u32 = libc::SECCOMP_RET_ERRNO | 1;
const KILL: u32 = libc::SECCOMP_RET_KILL_PROCESS;
const NONE: [u64; 6] = [0; 6];

fn program(profile: Value) -> Vec<sock_filter> {
    compile(&profile).unwrap().program
}

fn refused(profile: Value) -> String {
    let failure = cocoon_stage::Failure::from(compile(&profile).unwrap_err());
    assert_eq!(failure.code, cocoon_stage::Code::PlanInvalid);
    failure.reason
}

fn with_rule(rule: Value) -> Value {
    json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]})
}

#[test]
fn an_allow_list_as_engines_write_it() {
    let program = program(json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            {"names": ["read", "write", "socketcall", "a_call_of_tomorrow"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
            {"names": ["mount"], "action": "SCMP_ACT_KILL_PROCESS"},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]}
        ]
    }));
    let of = |call, first| verdict(&program, call, [first, 0, 0, 0, 0, 0]);
    let enosys = libc::SECCOMP_RET_ERRNO | 38;
    assert_eq!(of(libc::SYS_read, 0), ALLOW);
    assert_eq!(of(libc::SYS_write, 0), ALLOW);
    assert_eq!(of(libc::SYS_close, 0), enosys);
    assert_eq!(of(461, 0), enosys);
    assert_eq!(of(libc::SYS_clone3, 0), EPERM);
    assert_eq!(of(libc::SYS_mount, 0), KILL);
    assert_eq!(of(libc::SYS_clone, 17), ALLOW);
    assert_eq!(of(libc::SYS_clone, 0x1000_0000 | 17), enosys, "a new user namespace");
    assert_eq!([0, 8, 1].map(|p| of(libc::SYS_personality, p)), [ALLOW, ALLOW, enosys]);
    assert_eq!(of(0x4000_0000 | libc::SYS_read, 0), KILL, "x32");
}

#[test]
fn other_abis_are_killed() {
    let program = program(json!({"defaultAction": "SCMP_ACT_ALLOW"}));
    // The second word of what a filter reads is the architecture: i386 has another.
    assert_eq!((program[0].k, program[1].k, program[2].k), (4, NATIVE, KILL));
    assert_eq!((program[1].jt, program[1].jf), (1, 0));
    assert_eq!(verdict(&program, libc::SYS_mount, NONE), ALLOW);
}

#[test]
fn the_first_rule_that_holds_decides() {
    let program = program(json!({
        "defaultAction": "SCMP_ACT_LOG", "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"],
        "syscalls": [
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22,
             "args": [{"index": 0, "value": 16, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 9, "op": "SCMP_CMP_EQ"}]},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 2, "value": 9, "op": "SCMP_CMP_NE"}]},
            {"names": ["bpf"], "action": "SCMP_ACT_TRAP"}, {"names": ["ptrace"], "action": "SCMP_ACT_TRACE", "errnoRet": 7},
            {"names": ["acct"], "action": "SCMP_ACT_KILL"}
        ]
    }));
    let socket = |family, protocol| verdict(&program, libc::SYS_socket, [family, 1, protocol, 0, 0, 0]);
    assert_eq!(socket(16, 9), libc::SECCOMP_RET_ERRNO | 22);
    assert_eq!(socket(16, 8), ALLOW);
    assert_eq!(socket(2, 9), libc::SECCOMP_RET_LOG, "neither");
    assert_eq!(verdict(&program, libc::SYS_bpf, NONE), libc::SECCOMP_RET_TRAP);
    assert_eq!(verdict(&program, libc::SYS_ptrace, NONE), libc::SECCOMP_RET_TRACE | 7);
    assert_eq!(verdict(&program, libc::SYS_acct, NONE), libc::SECCOMP_RET_KILL_THREAD);
}

#[test]
fn what_is_not_understood_is_refused() {
    let allow = |more: Value| {
        let mut rule = json!({"names": ["read"], "action": "SCMP_ACT_ALLOW"});
        for (key, value) in more.as_object().unwrap() {
            rule[key] = value.clone();
        }
        with_rule(rule)
    };
    let argument = |value: Value| allow(json!({"args": [value]}));
    let cases = [
        (json!({}), "defaultAction"),
        (json!("SCMP_ACT_ALLOW"), "invalid type"),
        (json!({"defaultAction": "SCMP_ACT_NOTIFY"}), "SCMP_ACT_NOTIFY"),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}), "listener"),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NEW_LISTENER"]}), "flag"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}),
            "flag",
        ),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_VAX"]}), "SCMP_ARCH_VAX"),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}), "error number"),
        (json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}), "4096"),
        (json!({"defaultAction": "SCMP_ACT_ALLOW", "whatElse": 1}), "whatElse"),
        (allow(json!({"includes": {"caps": ["CAP_BPF"]}})), "includes"),
        (allow(json!({"errnoRet": 1})), "error number"),
        (allow(json!({"names": []})), "without names"),
        (allow(json!({"action": "SCMP_ACT_MAYBE"})), "SCMP_ACT_MAYBE"),
        (argument(json!({"index": 6, "value": 0, "op": "SCMP_CMP_EQ"})), "argument 6"),
        (argument(json!({"index": 0, "value": 0, "op": "SCMP_CMP_ABOUT"})), "SCMP_CMP_ABOUT"),
        (argument(json!({"index": 0, "value": -1, "op": "SCMP_CMP_EQ"})), "integer"),
        (argument(json!({"index": 0, "value": 0, "valueTwo": 1, "op": "SCMP_CMP_EQ"})), "second value"),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW",
                   "syscalls": [{"names": ["a_call_of_tomorrow"], "action": "SCMP_ACT_ERRNO"}]}),
            "a_call_of_tomorrow",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ERRNO"}, {"names": ["read"], "action": "SCMP_ACT_KILL"}]}),
            "contradict",
        ),
        (
            json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}]},
                {"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}),
            "contradict",
        ),
    ];
    for (profile, word) in cases {
        let why = refused(profile.clone());
        assert!(why.contains(word), "{profile}: {why}");
    }
    // A rule against a call that only a killed ABI has is kept by killing it.
    program(
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["vm86"], "action": "SCMP_ACT_ERRNO"}]}),
    );
}

#[test]
fn a_program_that_is_too_long_for_the_kernel_is_refused() {
    let argument = |i: u64| json!({"index": 0, "value": i, "op": "SCMP_CMP_EQ"});
    let rules: Vec<_> = (0..2000)
        .map(|i| json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [argument(i)]}))
        .collect();
    assert!(
        refused(json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules})).contains("more instructions")
    );
    let names = vec!["read"; 70_000];
    assert!(refused(with_rule(json!({"names": names, "action": "SCMP_ACT_ALLOW"}))).contains("too many"));
}

/// The whole table, each call with an answer of its own: the search finds every one, and what lies between.
#[test]
fn every_call_is_found() {
    let names = ["read", "openat", "mseal", "socket", "bpf", "clone3", "execve", "exit", "landlock_add_rule"];
    let rules: Vec<_> = (1..)
        .zip(names)
        .map(|(errno, name)| json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno}))
        .collect();
    let program = program(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules}));
    let numbered: BTreeMap<u32, u32> =
        (1..).zip(names).map(|(errno, name)| (syscall_names::number(name).unwrap(), errno)).collect();
    for number in 0..600_u32 {
        let expected = numbered.get(&number).map_or(ALLOW, |errno| libc::SECCOMP_RET_ERRNO | errno);
        assert_eq!(verdict(&program, number.into(), NONE), expected, "{number}");
    }
}

fn holds(op: &str, argument: u64, value: u64, two: u64) -> bool {
    match op {
        "SCMP_CMP_NE" => argument != value,
        "SCMP_CMP_LT" => argument < value,
        "SCMP_CMP_LE" => argument <= value,
        "SCMP_CMP_EQ" => argument == value,
        "SCMP_CMP_GE" => argument >= value,
        "SCMP_CMP_GT" => argument > value,
        _ => argument & value == two & value,
    }
}

const OPS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];

/// Values that meet often, in both halves.
fn word() -> impl Strategy<Value = u64> {
    let half = || prop_oneof![Just(0_u64), Just(1), Just(0x7fff_ffff), Just(0xffff_ffff), 0..4_u64];
    (half(), half()).prop_map(|(high, low)| high << 32 | low)
}

proptest! {
    #[test]
    fn the_program_means_what_the_profile_says(
        rules in prop::collection::vec(
            (0..3_usize, prop::collection::btree_map(0..6_u32, (0..7_usize, word(), word()), 1..4)), 0..6),
        call in 0..4_usize,
        arguments in prop::array::uniform6(word()),
    ) {
        let names = ["read", "write", "close", "openat"];
        let written: Vec<Value> = (1..).zip(&rules).map(|(errno, (name, args))| {
            let args: Vec<Value> = args.iter().map(|(index, (op, value, two))| {
                let two = if *op == 6 { *two } else { 0 };
                json!({"index": index, "value": value, "valueTwo": two, "op": OPS[*op]})
            }).collect();
            json!({"names": [names[*name]], "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": args})
        }).collect();
        let program = program(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": written}));
        let first = (1..).zip(&rules).find(|(_, (name, args))| {
            *name == call && args.iter().all(|(index, (op, value, two))| {
                holds(OPS[*op], arguments[usize::try_from(*index).unwrap()], *value, *two)
            })
        });
        let expected = first.map_or(ALLOW, |(errno, _): (u32, _)| libc::SECCOMP_RET_ERRNO | errno);
        let number = syscall_names::number(names[call]).unwrap();
        prop_assert_eq!(verdict(&program, number.into(), arguments), expected);
    }

    #[test]
    fn hostile_profiles_never_panic(text in ".{0,200}") {
        let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
        let _ = compile(&value);
    }
}
