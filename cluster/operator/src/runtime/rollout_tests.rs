use super::*;

/// Nodes that behave as told: a cluster for decisions.
struct Cluster {
    nodes: Vec<NodeView>,
    policy: Policy,
    /// Revisions with which installing fails, on these nodes.
    breaks: Vec<(&'static str, &'static str)>,
    /// Most nodes that were being changed at once.
    at_once: usize,
}

impl Cluster {
    fn new(count: usize, budget: usize) -> Self {
        let node = |n| NodeView { name: format!("n{n}"), selected: true, alive: true, current: None };
        let policy = Policy { target: "one".into(), budget, canary: true, ..Policy::default() };
        Cluster { nodes: (0..count).map(node).collect(), policy, breaks: Vec::new(), at_once: 0 }
    }

    /// One pass, and what its steps come to.
    fn pass(&mut self) -> Outcome {
        let outcome = plan(&self.policy, &self.nodes);
        for step in &outcome.steps {
            match step {
                Step::Assign { node, revision } => self.ask(node, revision, WantedState::Installed),
                Step::Clean { node } => {
                    let revision = self.node(node).current.as_ref().unwrap().revision.clone();
                    self.ask(node, &revision, WantedState::Absent);
                }
                Step::Forget { node } => {
                    let node = node.clone();
                    self.nodes.iter_mut().find(|n| n.name == node).unwrap().current = None;
                }
                Step::Try { .. } => self.policy.tried = Some(self.policy.target.clone()),
            }
        }
        if let Some(refused) = outcome.refused.clone() {
            self.policy.refused = Some(refused);
        }
        if outcome.done {
            self.policy.stable.clone_from(&outcome.goal);
        }
        let changing = self.nodes.iter().filter(|n| n.current.as_ref().is_some_and(|c| !c.settled)).count();
        self.at_once = self.at_once.max(changing);
        outcome
    }

    fn node(&self, name: &str) -> &NodeView {
        self.nodes.iter().find(|n| n.name == name).unwrap()
    }

    fn ask(&mut self, name: &str, revision: &str, wanted: WantedState) {
        let node = self.nodes.iter_mut().find(|n| n.name == name).unwrap();
        node.current = Some(Current { revision: revision.into(), wanted, ..Current::default() });
    }

    /// The processes of all living nodes answer.
    fn answer(&mut self) {
        for node in self.nodes.iter_mut().filter(|n| n.alive) {
            let name = node.name.clone();
            let Some(current) = node.current.as_mut().filter(|c| !c.settled) else { continue };
            current.settled = true;
            let breaks = self.breaks.contains(&(current.revision.as_str(), name.as_str()));
            current.phase = match current.wanted {
                WantedState::Absent => Phase::Removed,
                WantedState::Installed if breaks => Phase::Failed,
                WantedState::Installed => Phase::Ready,
            };
            current.message = "NODE-INSTALL-FAILED: no".into();
        }
    }

    /// Until nothing happens any more.
    fn settle(&mut self) -> Outcome {
        for _ in 0..200 {
            let before = (
                self.nodes.clone(),
                self.policy.stable.clone(),
                self.policy.tried.clone(),
                self.policy.refused.clone(),
            );
            let outcome = self.pass();
            self.answer();
            if before
                == (
                    self.nodes.clone(),
                    self.policy.stable.clone(),
                    self.policy.tried.clone(),
                    self.policy.refused.clone(),
                )
            {
                return outcome;
            }
        }
        panic!("it never comes to rest: {:?}", self.nodes);
    }

    fn revisions(&self) -> Vec<&str> {
        self.nodes.iter().map(|n| n.current.as_ref().map_or("", |c| c.revision.as_str())).collect()
    }
}

#[test]
fn the_first_node_is_tried_before_the_others_and_the_budget_holds() {
    let mut cluster = Cluster::new(7, 2);
    let first = cluster.pass();
    assert_eq!(first.steps, [Step::Assign { node: "n0".into(), revision: "one".into() }]);
    cluster.answer();
    assert_eq!(cluster.pass().steps, [Step::Try { node: "n0".into() }]);
    let outcome = cluster.settle();
    assert!(outcome.done && cluster.at_once == 2, "{}", cluster.at_once);
    assert_eq!(cluster.revisions(), ["one"; 7]);
    assert_eq!(cluster.policy.stable.as_deref(), Some("one"));
}

#[test]
fn an_upgrade_that_breaks_a_node_is_taken_back_on_all() {
    let mut cluster = Cluster::new(5, 1);
    cluster.settle();
    cluster.policy.target = "two".into();
    cluster.breaks = vec![("two", "n3")];
    let outcome = cluster.settle();
    assert_eq!(cluster.revisions(), ["one"; 5]);
    let (revision, why) = cluster.policy.refused.clone().unwrap();
    assert!(revision == "two" && why.contains("n3") && why.contains("NODE-INSTALL-FAILED"), "{why}");
    assert!(outcome.done && outcome.goal.as_deref() == Some("one"));
    // The next revision is not held against it.
    cluster.policy.target = "three".into();
    cluster.settle();
    assert_eq!(cluster.revisions(), ["three"; 5]);
}

#[test]
fn where_it_is_to_halt_nothing_more_is_changed() {
    let mut cluster = Cluster::new(5, 1);
    cluster.settle();
    cluster.policy.target = "two".into();
    cluster.policy.on_failure = OnFailure::Halt;
    cluster.breaks = vec![("two", "n1")];
    let outcome = cluster.settle();
    assert!(outcome.halted && !outcome.done);
    assert_eq!(cluster.revisions(), ["two", "two", "one", "one", "one"]);
}

#[test]
fn a_first_revision_that_breaks_nodes_stops_by_itself() {
    let mut cluster = Cluster::new(20, 2);
    cluster.policy.canary = false;
    cluster.breaks = ["n0", "n1", "n2", "n3"].map(|n| ("one", n)).into();
    let outcome = cluster.settle();
    assert!(!outcome.done);
    assert_eq!(cluster.revisions().iter().filter(|r| !r.is_empty()).count(), 2);
}

#[test]
fn a_canary_that_fails_takes_the_first_node_back() {
    let mut cluster = Cluster::new(3, 1);
    cluster.settle();
    cluster.policy.target = "two".into();
    while !cluster.pass().steps.contains(&Step::Try { node: "n0".into() }) {
        cluster.policy.tried = Some("one".into());
        cluster.answer();
    }
    cluster.policy.tried = Some("one".into());
    cluster.policy.refused = Some(("two".into(), "the canary pod failed".into()));
    cluster.settle();
    assert_eq!(cluster.revisions(), ["one"; 3]);
}

#[test]
fn a_node_that_is_away_holds_nobody_up_and_follows_when_it_is_back() {
    let mut cluster = Cluster::new(3, 1);
    cluster.nodes[1].alive = false;
    assert!(cluster.settle().done);
    assert_eq!(cluster.revisions(), ["one", "", "one"]);
    cluster.nodes[1].alive = true;
    cluster.settle();
    assert_eq!(cluster.revisions(), ["one"; 3]);
}

#[test]
fn nodes_that_are_not_meant_any_more_are_cleaned_and_forgotten() {
    let mut cluster = Cluster::new(3, 1);
    cluster.settle();
    cluster.nodes[2].selected = false;
    assert_eq!(cluster.pass().steps, [Step::Clean { node: "n2".into() }]);
    cluster.answer();
    assert_eq!(cluster.pass().steps, [Step::Forget { node: "n2".into() }]);
    assert_eq!(cluster.nodes[2].current, None);
}

#[test]
fn paused_or_on_delete_nobody_follows() {
    let mut cluster = Cluster::new(3, 3);
    cluster.settle();
    cluster.policy.target = "two".into();
    cluster.policy.paused = true;
    assert!(cluster.pass().steps.is_empty());
    cluster.policy.paused = false;
    cluster.policy.canary = false;
    cluster.policy.strategy = UpdateStrategy::OnDelete;
    assert!(cluster.settle().steps.is_empty());
    cluster.nodes[1].current = None;
    cluster.settle();
    assert_eq!(cluster.revisions(), ["one", "two", "one"]);
}

#[test]
fn nodes_without_a_tee_are_no_failure() {
    let mut cluster = Cluster::new(2, 1);
    cluster.pass();
    let current = cluster.nodes[0].current.as_mut().unwrap();
    (current.settled, current.phase) = (true, Phase::Unsupported);
    assert_eq!(cluster.pass().steps, [Step::Assign { node: "n1".into(), revision: "one".into() }]);
    let current = cluster.nodes[1].current.as_mut().unwrap();
    (current.settled, current.phase) = (true, Phase::Unsupported);
    let outcome = cluster.pass();
    assert!(outcome.done && outcome.steps.is_empty());
}

#[test]
fn a_node_that_hangs_gets_what_mends_it_at_once() {
    for canary in [true, false] {
        let mut cluster = Cluster::new(3, 1);
        cluster.policy.canary = canary;
        cluster.pass();
        // It has not answered, and never will.
        assert!(cluster.pass().steps.is_empty());
        cluster.policy.target = "two".into();
        assert_eq!(cluster.pass().steps, [Step::Assign { node: "n0".into(), revision: "two".into() }]);
        cluster.settle();
        assert_eq!((cluster.revisions(), cluster.at_once), (vec!["two"; 3], 1));
    }
}
