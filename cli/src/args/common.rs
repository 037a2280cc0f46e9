//! Which commands answer in JSON.

use super::{
    AuditCommand, Command, Common, EvidenceCommand, PolicyCommand, ReferenceCommand, RulesCommand, SealArgs,
    SecretCommand, TenantCommand, TrustCommand, TrusteeCommand, WorkloadCommand,
};

impl Command {
    /// Whether failures are to be told in JSON.
    pub fn wants_json(&self) -> bool {
        match self {
            Command::Run(args) => args.json,
            Command::Plan(args) => args.json,
            Command::PlanExplain(args) => args.json,
            Command::Doctor(args) => args.common.json,
            Command::Collateral(command) => command.json(),
            Command::Layers(command) => command.json(),
            Command::Node(command) => command.json(),
            Command::Image(command) => command.json(),
            Command::Guest(super::GuestCommand::Push(args)) => args.json,
            Command::Evidence(EvidenceCommand::Verify(args)) => args.json,
            Command::Evidence(EvidenceCommand::Show(args)) => args.json,
            other => other.common().is_some_and(|common| common.json),
        }
    }

    /// Whether it serves many at once.
    pub fn serves(&self) -> bool {
        matches!(self, Command::Trustee(super::TrusteeCommand::Serve(_)))
    }

    /// Whether it runs for months and does little: on one thread it takes less memory.
    pub fn idles(&self) -> bool {
        matches!(
            self,
            Command::Operator(super::OperatorCommand::Run(_)) | Command::Node(super::NodeCommand::Serve(_))
        )
    }

    fn common(&self) -> Option<&Common> {
        match self {
            Command::Secret(command) => Some(secret(command)),
            Command::Workload(
                WorkloadCommand::Add { common, .. }
                | WorkloadCommand::List { common }
                | WorkloadCommand::Show { common, .. }
                | WorkloadCommand::Rm { common, .. },
            ) => Some(common),
            Command::Policy(command) => Some(policy(command)),
            Command::Reference(command) => reference(command),
            Command::Explain(args) => Some(&args.common),
            Command::Apply(args) => Some(&args.common),
            Command::Status(args) => Some(&args.common),
            Command::Verify(args) => Some(&args.common),
            Command::Audit(
                AuditCommand::Head { common }
                | AuditCommand::Verify { common, .. }
                | AuditCommand::Prove { common, .. }
                | AuditCommand::Follow { common, .. },
            ) => Some(common),
            Command::Tenant(
                TenantCommand::List { common }
                | TenantCommand::Add { common, .. }
                | TenantCommand::Token { common, .. }
                | TenantCommand::Rm { common, .. },
            ) => Some(common),
            Command::Trustee(
                TrusteeCommand::RotateKey { common }
                | TrusteeCommand::ImportUpstream { common, .. }
                | TrusteeCommand::AuditKey { common },
            ) => Some(common),
            _ => None,
        }
    }
}

fn secret(command: &SecretCommand) -> &Common {
    match command {
        SecretCommand::Set { common, .. }
        | SecretCommand::Get { common, .. }
        | SecretCommand::Seal(SealArgs { common, .. })
        | SecretCommand::List { common }
        | SecretCommand::Rm { common, .. }
        | SecretCommand::Rules(
            RulesCommand::List { common }
            | RulesCommand::Set { common, .. }
            | RulesCommand::Show { common, .. }
            | RulesCommand::Rm { common, .. },
        ) => common,
    }
}

fn policy(command: &PolicyCommand) -> &Common {
    match command {
        PolicyCommand::List { common }
        | PolicyCommand::Set { common, .. }
        | PolicyCommand::Get { common, .. }
        | PolicyCommand::History { common, .. }
        | PolicyCommand::Rollback { common, .. }
        | PolicyCommand::Rm { common, .. }
        | PolicyCommand::DryRun { common, .. }
        | PolicyCommand::Defaults { common, .. } => common,
    }
}

fn reference(command: &ReferenceCommand) -> Option<&Common> {
    match command {
        ReferenceCommand::Sign { .. } => None,
        ReferenceCommand::List { common }
        | ReferenceCommand::Set { common, .. }
        | ReferenceCommand::Rm { common, .. }
        | ReferenceCommand::Import { common, .. }
        | ReferenceCommand::Diff { common, .. }
        | ReferenceCommand::Sets { common }
        | ReferenceCommand::Show { common, .. }
        | ReferenceCommand::RmSet { common, .. }
        | ReferenceCommand::Trust(
            TrustCommand::List { common }
            | TrustCommand::Add { common, .. }
            | TrustCommand::Rm { common, .. },
        ) => Some(common),
    }
}
