//! A real cluster: pods from `apply` to Ready beside runc and beside a bare boot, a crowd of them, installation, what operator and
//! nodes' processes take of memory and of the API server, the plan compiler, and a fleet of nodes that are objects alone.
//!
//! `COCOON_BENCH_PARTS` names the parts to run (`plans`, `pods`, `fleet`; default all), `COCOON_FLEET` the fleet's nodes (1000).
#![allow(missing_docs)]

mod kubernetes {
    pub mod fleet;
    pub mod footprint;
    pub mod plans;
    pub mod pods;
}

use anyhow::Result;
use cocoon_benches::load;
use cocoon_tests::kubernetes::{Options, tell};
use kubernetes::{fleet, plans, pods};

fn main() -> Result<()> {
    let parts = std::env::var("COCOON_BENCH_PARTS").unwrap_or_else(|_| "plans,pods,fleet".into());
    let wanted = |part: &str| parts.split(',').any(|p| p.trim() == part);
    println!("{}", load());
    if wanted("plans") {
        plans::figures()?;
    }
    if wanted("pods") {
        let bare = pods::bare()?;
        tell(Options::plain_with_owner(), move |cluster| {
            if let Err(e) = pods::figures(cluster, bare) {
                println!("the pods' part ended early: {e:#}");
            }
        });
    }
    if wanted("fleet") {
        tell(Options::plain(), |cluster| {
            if let Err(e) = fleet::figures(cluster) {
                println!("the fleet's part ended early: {e:#}");
            }
        });
    }
    println!("{}", load());
    Ok(())
}
