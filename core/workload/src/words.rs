//! What the guest will enforce, in words.

use crate::examine::Workload;
use crate::log::State;

impl Workload {
    /// A line for each field: who has the say, what holds, and why.
    pub fn explain(&self) -> String {
        let mut text = format!("{}\n", self.label);
        let count = |state| self.decisions.iter().filter(|d| d.state == state).count();
        let (fixed, open, refused) = (count(State::Fixed), count(State::Open), count(State::Refused));
        text.push_str(&format!(
            "  {fixed} fields are fixed: the guest lets nobody change them. {open} are open: the cluster has the say.\n"
        ));
        if refused > 0 {
            text.push_str(&format!("  {refused} are refused: no confidential pod can have them.\n"));
        }
        for decision in &self.decisions {
            let value = match decision.value.as_str() {
                "" => String::new(),
                value => format!(" = {value}"),
            };
            let why = match decision.why.as_str() {
                "" => String::new(),
                why => format!("\n           {why}"),
            };
            text.push_str(&format!("  {:<8} {}{value}{why}\n", decision.state.to_string(), decision.field));
        }
        // Refusals are among the decisions already.
        for problem in self.problems.iter().filter(|p| !p.unsupported) {
            text.push_str(&format!("  wrong    {}\n           {}\n", problem.field, problem.problem));
        }
        text
    }
}
