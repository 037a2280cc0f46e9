//! Other key providers, as ocicrypt's configuration file names them (`OCICRYPT_KEYPROVIDER_CONFIG`): a command, or gRPC
//! on this machine.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use cocoon_image::encryption::{KeyProviderInput, KeyProviderOutput};
use cocoon_rpc::{Endpoint, KeyProviderClient};
use cocoon_stage::{Code, Failure};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use zeroize::Zeroizing;

use super::usage;

/// How long a provider may take.
const LIMIT: Duration = Duration::from_secs(60);
/// Most bytes of an answer.
const MAX_ANSWER: u64 = 1 << 20;

#[derive(Deserialize)]
struct File {
    #[serde(rename = "key-providers")]
    providers: BTreeMap<String, Provider>,
}

/// One provider's entry.
#[derive(Clone, Deserialize)]
pub struct Provider {
    cmd: Option<Cmd>,
    grpc: Option<String>,
}

#[derive(Clone, Deserialize)]
struct Cmd {
    path: PathBuf,
    #[serde(default)]
    args: Option<Vec<String>>,
}

/// The configured providers by name; none without the variable.
pub fn configured() -> Result<BTreeMap<String, Provider>, Failure> {
    let Some(path) = std::env::var_os("OCICRYPT_KEYPROVIDER_CONFIG").filter(|v| !v.is_empty()) else {
        return Ok(BTreeMap::new());
    };
    let path = PathBuf::from(path);
    let wrong = |e: String| usage(format!("{} (OCICRYPT_KEYPROVIDER_CONFIG): {e}", path.display()));
    let text = std::fs::read(&path).map_err(|e| wrong(e.to_string()))?;
    let file: File = serde_json::from_slice(&text).map_err(|e| wrong(e.to_string()))?;
    Ok(file.providers)
}

impl Provider {
    /// Has a key wrapped; gives what belongs into the annotation.
    pub async fn wrap(&self, name: &str, parameters: &str, options: &[u8]) -> Result<Vec<u8>, Failure> {
        let parameters = BTreeMap::from([(name.to_owned(), vec![parameters.as_bytes().to_vec()])]);
        let input = KeyProviderInput::KeyWrap { options: Zeroizing::new(options.to_vec()), parameters };
        match self.ask(name, &input, true).await? {
            KeyProviderOutput::KeyWrap { annotation } => Ok(annotation),
            KeyProviderOutput::KeyUnwrap { .. } => Err(failed(name, "it unwrapped instead of wrapping")),
        }
    }

    /// Has a key unwrapped.
    pub async fn unwrap(&self, name: &str, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let input = KeyProviderInput::KeyUnwrap { annotation: wrapped.to_vec() };
        match self.ask(name, &input, false).await? {
            KeyProviderOutput::KeyUnwrap { options } => Ok(options),
            KeyProviderOutput::KeyWrap { .. } => Err(failed(name, "it wrapped instead of unwrapping")),
        }
    }

    async fn ask(
        &self,
        name: &str,
        input: &KeyProviderInput,
        wrap: bool,
    ) -> Result<KeyProviderOutput, Failure> {
        let json = input.to_json()?;
        let answer = match (&self.cmd, &self.grpc) {
            (Some(cmd), _) => tokio::time::timeout(LIMIT, run(name, cmd, &json))
                .await
                .map_err(|_| failed(name, "it did not answer within a minute"))??,
            (None, Some(address)) => {
                let client = KeyProviderClient::connect(Endpoint {
                    name: format!("key provider {name}"),
                    endpoint: format!("http://{address}"),
                    ca_pem: None,
                    identity: None,
                    timeout: LIMIT,
                })
                .map_err(|e| failed(name, &e.to_string()))?;
                let answered = if wrap { client.wrap(&json).await } else { client.unwrap(&json).await };
                answered.map_err(|e| failed(name, &e.to_string()))?
            }
            (None, None) => return Err(failed(name, "its entry has neither cmd nor grpc")),
        };
        Ok(KeyProviderOutput::parse(&answer)?)
    }
}

async fn run(name: &str, cmd: &Cmd, json: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let broken = |e: std::io::Error| failed(name, &format!("{}: {e}", cmd.path.display()));
    let mut child = Command::new(&cmd.path)
        .args(cmd.args.iter().flatten())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .map_err(broken)?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let send = async {
        if let Some(mut stdin) = stdin {
            // One that answers without reading all of it is not wrong.
            let _ = stdin.write_all(json).await;
        }
    };
    let mut answer = Zeroizing::new(Vec::new());
    let receive = async {
        match stdout {
            Some(stdout) => stdout.take(MAX_ANSWER).read_to_end(&mut answer).await.map(drop),
            None => Ok(()),
        }
    };
    let ((), received) = tokio::join!(send, receive);
    received.map_err(broken)?;
    let status = child.wait().await.map_err(broken)?;
    if !status.success() {
        return Err(failed(name, &format!("{} ended with {status}", cmd.path.display())));
    }
    Ok(answer)
}

fn failed(name: &str, why: &str) -> Failure {
    Failure::new(Code::ImageKeyUnavailable, format!("key provider {name}: {why}"))
}
