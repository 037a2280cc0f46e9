//! The host's ports for a process's standard streams.

use cocoon_plan::ContainerPlan;
use cocoon_sandbox_api::parse_stdio_uri;
use cocoon_stage::Failure;
use containerd_shim_protos::api::{CreateTaskRequest, ExecProcessRequest};
use tokio::io::AsyncWriteExt;

use crate::Error;
use crate::container::{Streams, Writer};
use crate::vsock;

/// The host's ports for a process's standard streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    stdin: Option<u32>,
    stdout: Option<u32>,
    stderr: Option<u32>,
    /// Whether the host may have output.
    logs: bool,
}

impl Ports {
    /// Those of a container; terminal and standard input must be as the plan says.
    ///
    /// # Errors
    /// A refusal.
    pub(super) fn of(req: &CreateTaskRequest, plan: &ContainerPlan) -> Result<Self, Failure> {
        if req.terminal != plan.terminal {
            let refused = Error::Refused(format!("terminal={} where the plan says otherwise", req.terminal));
            return Err(refused.into());
        }
        let ports = Ports::parse(&req.stdin, &req.stdout, &req.stderr, plan.terminal, plan.logs)?;
        if ports.stdin.is_some() && !plan.stdin {
            return Err(Error::Refused("standard input, which the plan does not allow".into()).into());
        }
        Ok(ports)
    }

    /// Those of a further process. Its output is the host's where the container's is, or where the host may run anything.
    ///
    /// # Errors
    /// A refusal.
    pub(super) fn of_exec(
        req: &ExecProcessRequest,
        terminal: bool,
        plan: &ContainerPlan,
    ) -> Result<Self, Failure> {
        Ports::parse(&req.stdin, &req.stdout, &req.stderr, terminal, plan.logs || plan.exec.any)
    }

    fn parse(stdin: &str, stdout: &str, stderr: &str, terminal: bool, logs: bool) -> Result<Self, Failure> {
        Ok(Ports {
            stdin: parse_stdio_uri(stdin)?,
            stdout: parse_stdio_uri(stdout)?,
            // A terminal has one output.
            stderr: if terminal { None } else { parse_stdio_uri(stderr)? },
            logs,
        })
    }

    /// Whether the host means to send standard input.
    pub(crate) fn has_stdin(&self) -> bool {
        self.stdin.is_some()
    }

    /// Connects to the host. Where the plan keeps the output from the host, its streams end at once and empty.
    ///
    /// # Errors
    /// `START-CONTAINER-FAILED`.
    pub(crate) async fn connect(self) -> Result<Streams, Failure> {
        let failed = |e: std::io::Error| Failure::from(Error::container("connect a standard stream")(e));
        let input = async {
            match self.stdin {
                None => Ok(None),
                Some(port) => vsock::connect(port).await.map(Some),
            }
        };
        let output = |port| async move {
            match port {
                None => Ok(None),
                Some(port) => output(port, self.logs).await,
            }
        };
        let (stdin, stdout, stderr) =
            tokio::try_join!(input, output(self.stdout), output(self.stderr)).map_err(failed)?;
        Ok(Streams { stdin: stdin.map(|s| Box::new(s) as _), stdout, stderr })
    }
}

async fn output(port: u32, logs: bool) -> std::io::Result<Option<Writer>> {
    let (mut reader, mut writer) = vsock::connect(port).await?.into_split();
    if !logs {
        writer.shutdown().await?;
    }
    // The socket stays until the host has taken everything and closes its side: closing it earlier could drop
    // what is still on its way.
    tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
    Ok(logs.then(|| Box::new(writer) as Writer))
}

#[cfg(test)]
mod tests {
    use cocoon_stage::Code;

    use super::super::requests::tests::plan;
    use super::*;

    #[test]
    fn streams_are_as_the_plan_says() {
        let request = |stdin: &str, stdout: &str, terminal| CreateTaskRequest {
            stdin: stdin.into(),
            stdout: stdout.into(),
            terminal,
            ..CreateTaskRequest::default()
        };
        let (port, mut plan) = ("vsock://2:5000", plan());
        let ports = Ports::of(&request("", port, false), &plan).unwrap();
        assert_eq!(ports, Ports { stdin: None, stdout: Some(5000), stderr: None, logs: true });
        for bad in [request(port, "", false), request("", port, true), request("", "/a/fifo", false)] {
            assert_eq!(Ports::of(&bad, &plan).unwrap_err().code, Code::PlanRequestRefused);
        }
        plan.stdin = true;
        assert_eq!(Ports::of(&request(port, "", false), &plan).unwrap().stdin, Some(5000));
    }

    #[test]
    fn output_of_a_probe_is_kept_from_the_host_as_the_containers_is() {
        let mut plan = plan();
        plan.logs = false;
        let request = ExecProcessRequest { stdout: "vsock://2:5000".into(), ..ExecProcessRequest::default() };
        assert!(!Ports::of_exec(&request, false, &plan).unwrap().logs);
        plan.exec.any = true;
        assert!(Ports::of_exec(&request, false, &plan).unwrap().logs);
    }
}
