//! Requests to the provisioner: its body, and method and path between NUL bytes.
#![no_main]

use std::sync::{Arc, LazyLock};

use cocoon_backends::{ProvisionRequest, Provisioner, ProvisionerCall, provisioned_uuid};
use cocoon_store::{MemoryStore, Sealer};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

static PROVISIONER: LazyLock<Provisioner> = LazyLock::new(|| {
    let sealer = Arc::new(Sealer::ephemeral().expect("a sealer"));
    Provisioner::new(Arc::new(MemoryStore::new()), sealer, 32).expect("good settings")
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = ProvisionRequest::parse(bytes) {
        let made = PROVISIONER.provision(&request).expect("memory takes it");
        assert_eq!(made.uuid, provisioned_uuid(&request.namespace, &request.vm_name));
        assert!(PROVISIONER.get(&made.uuid, None).is_err(), "only a bound guest gets it");
        let claims = json!({ "trustee.kbs.resource": format!("kbs+provisioner:///{}", made.resource_path) });
        assert!(PROVISIONER.get(&made.uuid, Some(&claims)).expect("it is bound").is_some());
        let path = ["default", made.uuid.as_str(), "root"];
        assert!(ProvisionerCall::of("GET", &path).is_some_and(|call| !call.is_admin()));
        assert!(PROVISIONER.delete(&made.uuid).expect("memory takes it"));
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        let mut words = text.split('\0');
        let method = words.next().unwrap_or_default();
        let path: Vec<&str> = words.take(16).collect();
        if let Some(ProvisionerCall::Get { uuid } | ProvisionerCall::Delete { uuid }) =
            ProvisionerCall::of(method, &path)
        {
            assert!(uuid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') && uuid.len() == 36);
        }
        // Claims are the guest's words.
        if let Ok(claims) = serde_json::from_str(text) {
            let _ = PROVISIONER.get("feab5599-6854-52bc-95f0-0241c03e620a", Some(&claims));
        }
    }
});
