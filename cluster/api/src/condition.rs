//! Conditions: what is so, why, and what to do, for people and for `kubectl wait`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// The types of conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConditionKind {
    /// Everything is as the spec says.
    Ready,
    /// Something is being done about it.
    Progressing,
    /// Something is wrong that does not mend itself.
    Degraded,
}

impl ConditionKind {
    /// The word in the resource.
    pub fn word(self) -> &'static str {
        match self {
            ConditionKind::Ready => "Ready",
            ConditionKind::Progressing => "Progressing",
            ConditionKind::Degraded => "Degraded",
        }
    }
}

/// A condition that is true or false. `message` is at most 32 KiB; longer ones are cut.
pub fn condition(
    kind: ConditionKind,
    holds: bool,
    reason: &str,
    message: impl Into<String>,
    generation: Option<i64>,
    now: Time,
) -> Condition {
    let mut message: String = message.into();
    if message.len() > 8192 {
        let end = (0..=8192).rev().find(|n| message.is_char_boundary(*n)).unwrap_or(0);
        message.truncate(end);
    }
    Condition {
        type_: kind.word().into(),
        status: if holds { "True" } else { "False" }.into(),
        reason: reason.into(),
        message,
        observed_generation: generation,
        last_transition_time: now,
    }
}

/// Puts a condition into a list; the time of the last transition stays where the status does.
pub fn set_condition(list: &mut Vec<Condition>, mut new: Condition) {
    match list.iter_mut().find(|c| c.type_ == new.type_) {
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time = old.last_transition_time.clone();
            }
            *old = new;
        }
        None => list.push(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn a_transition_is_a_change_of_status_alone() {
        let mut list = Vec::new();
        set_condition(&mut list, condition(ConditionKind::Ready, false, "A", "a", Some(1), at(1)));
        set_condition(&mut list, condition(ConditionKind::Ready, false, "B", "b", Some(2), at(2)));
        assert_eq!((list.len(), list[0].reason.as_str()), (1, "B"));
        assert_eq!(list[0].last_transition_time, at(1));
        set_condition(&mut list, condition(ConditionKind::Ready, true, "C", "c", Some(2), at(3)));
        assert_eq!(list[0].last_transition_time, at(3));
    }

    #[test]
    fn a_huge_message_is_cut_at_a_character() {
        let long = "ä".repeat(8000);
        let cut = condition(ConditionKind::Ready, true, "A", long, None, at(1));
        assert!(cut.message.len() <= 8192 && cut.message.len() > 8000);
    }
}
