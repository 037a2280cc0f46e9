//! A guest that speaks any version of the protocol, with any key, TEE and devices.

use cocoon_protocol::{HashAlgorithm, b64, device_report_data, report_data};
use cocoon_trustee::{Rule, Trustee};
use serde_json::{Value, json};

use super::key::Key;
use super::{Guest, Reply, World};

/// Makes the devices' part of a message for a guest and a nonce.
pub type Devices = Box<dyn Fn(&Speaker, &str) -> String + Send + Sync>;

pub struct Speaker {
    pub guest: Guest,
    pub version: &'static str,
    pub tee: &'static str,
    pub key: Key,
    /// JSON text of the devices' evidence for a nonce.
    pub devices: Devices,
}

impl Speaker {
    pub async fn new(world: &World, version: &'static str, tee: &'static str, key: Key) -> Speaker {
        let guest = world.guest(None).await;
        Speaker { guest, version, tee, key, devices: Box::new(|_, _| String::new()) }
    }

    /// The nonce of a challenge.
    pub async fn auth(&mut self) -> String {
        let body = json!({"version": self.version, "tee": self.tee, "extra-params": ""});
        let reply = self.guest.post("/kbs/v0/auth", &body).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()["nonce"].as_str().unwrap().to_owned()
    }

    /// The message of this version that answers a challenge.
    pub fn message(&self, world: &World, nonce: &str) -> Value {
        let key = self.key.public();
        if self.version != "0.4.0" {
            let data = device_report_data(HashAlgorithm::Sha384, nonce, &key).unwrap();
            return json!({"tee-pubkey": key, "tee-evidence": self.evidence(world, &data)});
        }
        let devices = (self.devices)(self, nonce);
        let data = report_data(HashAlgorithm::Sha384, nonce, &key, &devices).unwrap();
        let mut message = json!({
            "runtime-data": {"nonce": nonce, "tee-pubkey": key},
            "tee-evidence": {"primary_evidence": self.evidence(world, &data), "additional_evidence": devices},
        });
        if let Some(init_data) = &self.guest.init_data {
            message["init-data"] = json!({"format": "toml", "body": init_data.text()});
        }
        message
    }

    fn evidence(&self, world: &World, data: &[u8]) -> Value {
        match self.tee {
            "sample" => sample(data),
            _ => world.evidence(&self.guest, data),
        }
    }

    /// The whole handshake; the token or the refusal.
    pub async fn attest(&mut self, world: &World) -> Result<String, Reply> {
        let nonce = self.auth().await;
        let message = self.message(world, &nonce);
        self.answer(&message).await
    }

    pub async fn answer(&mut self, message: &Value) -> Result<String, Reply> {
        let reply = self.guest.post("/kbs/v0/attest", message).await;
        if reply.status != 200 {
            return Err(reply);
        }
        Ok(reply.json()["token"].as_str().unwrap().to_owned())
    }

    /// Reads a resource in this version's form and in no other.
    pub fn open(&self, reply: &Reply) -> Vec<u8> {
        assert_eq!(reply.status, 200, "{}", reply.text());
        let (jwe, old) = (reply.json(), self.version == "0.1.1");
        let opened = if old { self.key.open_0_1_1(&jwe) } else { self.key.open(&jwe) };
        let otherwise = if old { self.key.open(&jwe) } else { self.key.open_0_1_1(&jwe) };
        assert_eq!(otherwise, None);
        opened.expect("a resource for this key in this version's form")
    }
}

/// Sample evidence, of a guest or of a device.
pub fn sample(report_data: &[u8]) -> Value {
    json!({"svn": "1", "report_data": b64::std_encode(report_data)})
}

/// A device's evidence as bound to this nonce and key.
pub fn sample_device(key: &Key, nonce: &str) -> Value {
    sample(&device_report_data(HashAlgorithm::Sha384, nonce, &key.public()).unwrap())
}

/// Registers what sample guests and devices claim.
pub fn sample_values(trustee: &Trustee) {
    let values = [
        ("launch_digest", json!("abcde")),
        ("svn", json!("1")),
        ("major_version", json!(1)),
        ("minimum_minor_version", json!(1)),
        ("device_svn", json!("1")),
    ];
    let values = values.map(|(name, value)| (name.to_owned(), vec![value])).into();
    trustee.put_reference_values("test", &values, None).unwrap();
}

/// A rule that lets every guest have the paths of a pattern.
pub fn rule_for_any(pattern: &str, accept_simulated: bool) -> Rule {
    let rule = json!({
        "id": "any", "workload": "any", "path": pattern, "min_status": "affirming",
        "accept_simulated": accept_simulated,
    });
    serde_json::from_value(rule).unwrap()
}
