//! Platform and realm against the store's reference values.

use cocoon_stage::Code;

use super::collateral::{PlatformReference, RealmReference, Rules, Store};
use super::evidence::Evidence;
use super::realm::Realm;
use super::token::{Platform, SwComponent};
use crate::Check;

const COMPONENTS: &str = "Arm DEN0137, A7.2.3.2.7; the reference value store";
const CONFIG: &str = "Arm DEN0137, A7.2.3.2.5; the reference value store";
const REALM: &str = "Arm DEN0137, A7.1; the reference value store";

/// Longest text of a check.
const MAX_SHOWN: usize = 200;

/// All checks against reference values.
pub(super) fn checks(evidence: &Evidence, store: &Store, rules: &Rules) -> Vec<Check> {
    let (platform, realm) = (evidence.platform(), evidence.realm());
    let mut checks = platform_checks(platform, store.platforms(&platform.implementation_id), rules);
    if !store.realms().is_empty() && !rules.realm_references_ignored {
        checks.push(realm_check(realm, store.realms()));
    }
    checks
}

/// The platform must be in one of its implementation's states; the checks speak of the state that is nearest.
fn platform_checks(platform: &Platform, states: &[PlatformReference], rules: &Rules) -> Vec<Check> {
    let nearest = states.iter().min_by_key(|state| {
        let differences = Differences::of(platform, state).count();
        differences + usize::from(state.config != platform.config)
    });
    let Some(state) = nearest else {
        if rules.platform_references_optional {
            return Vec::new();
        }
        return vec![Check::new(
            "platform.sw-components",
            false,
            Code::AttestMeasurementUnknown,
            "reference values for this implementation",
            format!("none for {}", hex::encode(platform.implementation_id)),
            COMPONENTS,
        )];
    };
    let differences = Differences::of(platform, state);
    let outdated = !differences.versions.is_empty() && differences.versions.len() == differences.count();
    vec![
        Check::new(
            "platform.sw-components",
            differences.count() == 0,
            if outdated { Code::AttestTcbOutdated } else { Code::AttestMeasurementUnknown },
            format!("the {} components of a reference state", state.sw_components.len()),
            differences.describe(platform),
            COMPONENTS,
        ),
        Check::new(
            "platform.config",
            state.config == platform.config,
            Code::AttestMeasurementUnknown,
            shown(hex::encode(&state.config)),
            shown(hex::encode(&platform.config)),
            CONFIG,
        ),
    ]
}

/// How a platform's components differ from those of a reference state.
#[derive(Default)]
struct Differences<'a> {
    /// Of the platform, where only version and measurement are others than the reference state's.
    versions: Vec<&'a SwComponent>,
    /// Of the platform, otherwise in no reference.
    unknown: Vec<&'a SwComponent>,
    /// Of the reference state, which the platform does not have.
    missing: Vec<&'a SwComponent>,
    /// Whether one is there more often than it should be.
    repeated: bool,
}

impl<'a> Differences<'a> {
    /// Order does not matter. Every component must be one of the state's and the other way round, and as many.
    fn of(platform: &'a Platform, state: &'a PlatformReference) -> Self {
        let (ours, theirs) = (&platform.sw_components, &state.sw_components);
        let mut differences = Differences::default();
        for component in ours {
            if theirs.iter().any(|reference| is(component, reference)) {
                continue;
            }
            match theirs.iter().any(|reference| is_other_version(component, reference)) {
                true => differences.versions.push(component),
                false => differences.unknown.push(component),
            }
        }
        for reference in theirs {
            let there = ours.iter().any(|c| is(c, reference) || is_other_version(c, reference));
            if !there {
                differences.missing.push(reference);
            }
        }
        differences.repeated = ours.len() != theirs.len() && differences.listed() == 0;
        differences
    }

    fn listed(&self) -> usize {
        self.versions.len() + self.unknown.len() + self.missing.len()
    }

    fn count(&self) -> usize {
        self.listed() + usize::from(self.repeated)
    }

    fn describe(&self, platform: &Platform) -> String {
        if self.repeated {
            return format!("{} components, some repeated", platform.sw_components.len());
        }
        if self.count() == 0 {
            return format!("all {}", platform.sw_components.len());
        }
        let parts: [(&str, &[&SwComponent]); 3] =
            [("of another version", &self.versions), ("unknown", &self.unknown), ("missing", &self.missing)];
        let part = |(name, list): &(&str, &[&SwComponent])| {
            let first = list.first().map(|c| label(c))?;
            Some(format!("{} {name} ({first})", list.len()))
        };
        shown(parts.iter().filter_map(part).collect::<Vec<_>>().join(", "))
    }
}

/// A component's name and measurement, fit to print.
fn label(component: &SwComponent) -> String {
    let name = component.measurement_type.as_deref().unwrap_or("unnamed");
    let name: String =
        name.chars().take(24).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect();
    let measurement: String = hex::encode(&component.measurement_value).chars().take(16).collect();
    format!("{name} {measurement}…")
}

/// Whether a component is the reference's; what a reference leaves open may be anything.
fn is(component: &SwComponent, reference: &SwComponent) -> bool {
    component.measurement_value == reference.measurement_value
        && component.signer_id == reference.signer_id
        && agrees(&reference.measurement_type, &component.measurement_type)
        && agrees(&reference.version, &component.version)
        && agrees(&reference.hash_algo_id, &component.hash_algo_id)
}

/// Whether a component has the reference's role and signer but another version.
fn is_other_version(component: &SwComponent, reference: &SwComponent) -> bool {
    let stated = reference.version.is_some() && component.version.is_some();
    stated
        && component.version != reference.version
        && component.signer_id == reference.signer_id
        && component.measurement_type.is_some()
        && component.measurement_type == reference.measurement_type
}

fn agrees(reference: &Option<String>, value: &Option<String>) -> bool {
    reference.is_none() || reference == value
}

/// The realm must be in one of the states.
fn realm_check(realm: &Realm, states: &[RealmReference]) -> Check {
    let same = |state: &&RealmReference| {
        state.initial_measurement == realm.initial_measurement
            && state.public_key_hash == realm.public_key_hash
            && state.extensible_measurements.as_ref().is_none_or(|m| *m == realm.extensible_measurements)
            && state.personalization_value.is_none_or(|value| value == realm.personalization_value)
    };
    Check::new(
        "realm.measurements",
        states.iter().any(|state| same(&state)),
        Code::AttestMeasurementUnknown,
        format!("one of {} reference states", states.len()),
        hex::encode(&realm.initial_measurement),
        REALM,
    )
}

fn shown(text: String) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        None => text,
        Some((end, _)) => text.get(..end).map(|head| format!("{head}…")).unwrap_or_default(),
    }
}
