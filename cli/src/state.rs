//! `cocoon secret|workload|reference|explain`: the embedded Trustee's state.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use cocoon_stage::{Code, Failure};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::args::{ExplainArgs, ReferenceCommand, SecretCommand, WorkloadCommand};
use crate::embedded::Embedded;

pub fn secret(command: SecretCommand) -> Result<(), Failure> {
    let embedded = Embedded::open(None)?;
    match command {
        SecretCommand::Set { path, value } => embedded.put_secret(&path, &read_value(&value)?),
        SecretCommand::List => {
            for path in embedded.secrets()? {
                say(&path);
            }
            Ok(())
        }
        SecretCommand::Rm { path } => {
            if embedded.delete_secret(&path)? {
                Ok(())
            } else {
                Err(none(&path))
            }
        }
    }
}

fn none(what: &str) -> Failure {
    Failure::new(Code::ReleaseSecretMissing, format!("there is no {what}"))
}

fn read_value(value: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let bad = |e: std::io::Error| Failure::new(Code::PlanSecretInvalid, e.to_string());
    let mut bytes = Zeroizing::new(Vec::new());
    match value.strip_prefix('@') {
        Some(file) => *bytes = std::fs::read(file).map_err(bad)?,
        None if value == "-" => drop(std::io::stdin().read_to_end(&mut bytes).map_err(bad)?),
        None => bytes.extend_from_slice(value.as_bytes()),
    }
    Ok(bytes)
}

pub fn workload(command: WorkloadCommand) -> Result<(), Failure> {
    let embedded = Embedded::open(None)?;
    match command {
        WorkloadCommand::List => print(&embedded.workloads()?),
        WorkloadCommand::Rm { digest } => {
            if embedded.unregister(&digest)? {
                Ok(())
            } else {
                Err(none(&format!("workload {digest}")))
            }
        }
    }
}

pub fn reference(command: ReferenceCommand) -> Result<(), Failure> {
    let embedded = Embedded::open(None)?;
    match command {
        ReferenceCommand::List => print(&embedded.references()?),
        ReferenceCommand::Set { name, values } => {
            // Numbers stay numbers: TCB components are compared as such.
            let values =
                values.iter().map(|v| v.parse::<u64>().map_or_else(|_| v.as_str().into(), Value::from));
            embedded.put_references("owner", &BTreeMap::from([(name, values.collect())]), None)
        }
        ReferenceCommand::Rm { name } => match embedded.delete_references(&name)? {
            0 => Err(none(&format!("reference value {name}"))),
            _ => Ok(()),
        },
    }
}

pub fn explain(args: &ExplainArgs) -> Result<(), Failure> {
    let embedded = Embedded::open(None)?;
    match &args.request {
        Some(id) => print(&embedded.explain(id).ok_or_else(|| none(&format!("verdict for request {id}")))?),
        None => print(&Value::Array(embedded.latest(20)?)),
    }
}

fn print(value: &Value) -> Result<(), Failure> {
    let text =
        serde_json::to_string_pretty(value).map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
    say(&text);
    Ok(())
}

/// A line on standard output. A reader that has seen enough and closed the pipe is no failure.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
