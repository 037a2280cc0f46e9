//! The environment of a container's processes.

use cocoon_plan::ContainerPlan;

use crate::Error;

/// The plan's environment with what the host may add (`host`, already chosen by the plan) and what every program expects.
///
/// # Errors
/// [`Error::Plan`] for a sealed secret.
pub(crate) fn of(plan: &ContainerPlan, host: &[String], home: &str) -> Result<Vec<String>, Error> {
    let mut env = plan.env.clone();
    // This guest does not unseal; a program must not get the sealed form in place of its secret.
    if let Some(entry) = env.iter().find(|e| e.split_once('=').is_some_and(|(_, v)| v.starts_with("sealed.")))
    {
        let name = entry.split('=').next().unwrap_or_default();
        return Err(Error::Plan(format!("{name} is a sealed secret, which this guest cannot unseal")));
    }
    env.extend(host.iter().cloned());
    complete(&mut env, home, plan.terminal);
    Ok(env)
}

/// Adds what every program expects and nobody has set.
pub(crate) fn complete(env: &mut Vec<String>, home: &str, terminal: bool) {
    let has = |env: &[String], name: &str| env.iter().any(|e| e.split('=').next() == Some(name));
    if !has(env, "HOME") {
        env.push(format!("HOME={home}"));
    }
    if terminal && !has(env, "TERM") {
        env.push("TERM=xterm".into());
    }
}
