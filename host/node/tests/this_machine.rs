//! The doctor on the machine that the tests run on: it always comes to an end with something to say.

use std::path::Path;

use cocoon_node::Status;

#[tokio::test]
async fn every_check_has_something_to_say() {
    let nowhere = Path::new("/nonexistent/guest");
    let report = cocoon_node::doctor(nowhere, nowhere).await;
    print!("{}", report.render());
    for check in &report.checks {
        assert!(!check.found.is_empty() && !check.means.is_empty(), "{check:?}");
    }
    let image = report.checks.iter().find(|c| c.name == "guest image");
    assert!(image.is_some_and(|c| c.status == Status::Missing));
    assert!(report.anything_missing());
}
