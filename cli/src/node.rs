//! `cocoon node`: what a node of a cluster needs.

use cocoon_stage::Failure;

use crate::args::NodeCommand;
use crate::snapshotter;

/// Runs a subcommand.
pub async fn main(command: NodeCommand) -> Result<u8, Failure> {
    match command {
        NodeCommand::Snapshotter(args) => snapshotter::main(&args).await.map(|()| 0),
    }
}
