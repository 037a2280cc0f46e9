//! A pod under way, as kubelet sees it.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use protobuf::{EnumOrUnknown, MessageField};

use super::cri::{self, Cri};
use super::{ContainerWish, Containerd, Forward, Node, PodWish, Stream};

/// How long a container may take to do what a test waits for.
const LIMIT: Duration = Duration::from_secs(180);

/// A pod that was asked for. It stays until it is removed or the node ends.
pub struct Pod {
    cri: Cri,
    wish: PodWish,
    config: cri::PodSandboxConfig,
    logs: PathBuf,
    /// containerd's name for it.
    pub id: String,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status.
    pub code: i32,
    /// In a word: `Completed`, `Error`, `OOMKilled`.
    pub reason: String,
    /// More words.
    pub message: String,
}

impl Pod {
    /// Makes and starts one.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn run(containerd: &Containerd, node: &Node, wish: PodWish) -> Result<Self> {
        let logs = containerd.logs().join(&wish.name);
        fs::create_dir_all(&logs)?;
        // containerd takes the parent as it is on cgroup v1.
        let config = wish.config(&logs.display().to_string(), &node.cgroup_parent());
        let cri = containerd.cri();
        let request = cri::RunPodSandboxRequest {
            config: MessageField::some(config.clone()),
            runtime_handler: wish.runtime.clone(),
            ..Default::default()
        };
        let id = cri.run_pod(&request).await?.pod_sandbox_id;
        Ok(Pod { cri, wish, config, logs, id })
    }

    /// Makes a container in it; its image is fetched where it is absent. Gives its id.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn create(&self, wish: &ContainerWish) -> Result<String> {
        self.create_changed(wish, |_| {}).await
    }

    /// An annotation that it was wished with.
    ///
    /// # Errors
    /// Where it has none of this name.
    pub fn annotation(&self, name: &str) -> Result<&str> {
        self.wish.annotations.get(name).map(String::as_str).with_context(|| format!("no annotation {name}"))
    }

    /// [`Pod::create`] with another description of the container than a wish can be of.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn create_changed(
        &self,
        wish: &ContainerWish,
        change: impl FnOnce(&mut cri::ContainerConfig),
    ) -> Result<String> {
        let mut config = self.wish.container(wish);
        change(&mut config);
        let image = cri::ImageRequest { image: config.image.clone(), ..Default::default() };
        if self.cri.image(&image).await?.image.is_none() {
            self.pull(&wish.image).await?;
        }
        if let Some(folder) = self.log_file(&wish.name, wish.attempt).parent() {
            fs::create_dir_all(folder)?;
        }
        let request = cri::CreateContainerRequest {
            pod_sandbox_id: self.id.clone(),
            config: MessageField::some(config),
            sandbox_config: MessageField::some(self.config.clone()),
            ..Default::default()
        };
        Ok(self.cri.create(&request).await?.container_id)
    }

    /// Has an image fetched for this pod.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn pull(&self, image: &str) -> Result<()> {
        let request = cri::ImageRequest {
            image: MessageField::some(cri::ImageSpec { image: image.into(), ..Default::default() }),
            // Which runtime it is for decides which snapshotter it is for.
            sandbox_config: MessageField::some(self.config.clone()),
            ..Default::default()
        };
        self.cri.pull(&request).await?;
        Ok(())
    }

    /// Starts a container that was made.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn start(&self, container: &str) -> Result<()> {
        self.cri.start(&named(container)).await?;
        Ok(())
    }

    /// Makes and starts a container; gives its id.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn container(&self, wish: &ContainerWish) -> Result<String> {
        let id = self.create(wish).await?;
        self.start(&id).await?;
        Ok(id)
    }

    /// How a container is.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn status(&self, container: &str) -> Result<cri::ContainerStatus> {
        let request = cri::ContainerStatusRequest { container_id: container.into(), ..Default::default() };
        self.cri.container_status(&request).await?.status.into_option().context("no status")
    }

    /// How the pod is.
    ///
    /// # Errors
    /// Where there is none.
    pub async fn pod_status(&self) -> Result<cri::PodSandboxStatus> {
        let request = cri::PodSandboxStatusRequest { pod_sandbox_id: self.id.clone(), ..Default::default() };
        self.cri.pod_status(&request).await?.status.into_option().context("no status")
    }

    /// Waits for a container's end.
    ///
    /// # Errors
    /// Where it does not end in time.
    pub async fn wait(&self, container: &str) -> Result<Ended> {
        let began = Instant::now();
        loop {
            let status = self.status(container).await?;
            if status.state == EnumOrUnknown::new(cri::ContainerState::CONTAINER_EXITED) {
                return Ok(Ended { code: status.exit_code, reason: status.reason, message: status.message });
            }
            if began.elapsed() > LIMIT {
                bail!(
                    "container {container} has not ended: {:?}; its log:\n{}",
                    status.state,
                    self.all_logs()
                );
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }

    /// Runs a program in a container; gives its standard output and error, and its exit status.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn exec(&self, container: &str, command: &[&str]) -> Result<(String, String, i32)> {
        self.exec_within(container, command, 0).await
    }

    /// [`Pod::exec`] with a limit in seconds.
    ///
    /// # Errors
    /// As there, and where it takes longer.
    pub async fn exec_within(
        &self,
        container: &str,
        command: &[&str],
        seconds: i64,
    ) -> Result<(String, String, i32)> {
        let request = cri::ExecSyncRequest {
            container_id: container.into(),
            cmd: command.iter().map(|c| (*c).to_owned()).collect(),
            timeout: seconds,
            ..Default::default()
        };
        let answer = self.cri.exec_sync(&request).await?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok((text(answer.stdout), text(answer.stderr), answer.exit_code))
    }

    /// Runs a shell script in a container that must succeed; gives its standard output without the last line break.
    ///
    /// # Errors
    /// Where it does not.
    pub async fn sh(&self, container: &str, script: &str) -> Result<String> {
        let (out, err, code) = self.exec(container, &["/bin/sh", "-c", script]).await?;
        if code != 0 {
            bail!("{script:?}: status {code}: {out}{err}");
        }
        Ok(out.trim_end_matches('\n').to_owned())
    }

    /// Runs a program in a container with streams.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn exec_stream(
        &self,
        container: &str,
        command: &[&str],
        tty: bool,
        stdin: bool,
    ) -> Result<Stream> {
        let request = cri::ExecRequest {
            container_id: container.into(),
            cmd: command.iter().map(|c| (*c).to_owned()).collect(),
            tty,
            stdin,
            stdout: true,
            stderr: !tty,
            ..Default::default()
        };
        Stream::open(&self.cri.exec(&request).await?.url).await
    }

    /// A container's own streams.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn attach(&self, container: &str, tty: bool, stdin: bool) -> Result<Stream> {
        let request = cri::AttachRequest {
            container_id: container.into(),
            tty,
            stdin,
            stdout: true,
            stderr: !tty,
            ..Default::default()
        };
        Stream::open(&self.cri.attach(&request).await?.url).await
    }

    /// A connection to one of its ports.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn forward(&self, port: u16) -> Result<Forward> {
        let request = cri::PortForwardRequest {
            pod_sandbox_id: self.id.clone(),
            port: vec![i32::from(port)],
            ..Default::default()
        };
        Forward::open(&self.cri.port_forward(&request).await?.url).await
    }

    /// Asks a container to end, and kills it after so many seconds.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn stop_container(&self, container: &str, seconds: i64) -> Result<()> {
        let request = cri::StopContainerRequest {
            container_id: container.into(),
            timeout: seconds,
            ..Default::default()
        };
        self.cri.stop(&request).await?;
        Ok(())
    }

    /// Removes a container.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn remove_container(&self, container: &str) -> Result<()> {
        self.cri.remove(&named(container)).await?;
        Ok(())
    }

    /// Changes a container's limits.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn update(&self, container: &str, linux: cri::LinuxContainerResources) -> Result<()> {
        let request = cri::UpdateContainerResourcesRequest {
            container_id: container.into(),
            linux: MessageField::some(linux),
            ..Default::default()
        };
        self.cri.update(&request).await?;
        Ok(())
    }

    /// What it uses.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn stats(&self) -> Result<cri::PodSandboxStats> {
        self.cri.pod_stats(&self.request()).await?.stats.into_option().context("no statistics")
    }

    /// What a container uses.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn container_stats(&self, container: &str) -> Result<cri::ContainerStats> {
        self.cri.container_stats(&named(container)).await?.stats.into_option().context("no statistics")
    }

    /// Opens a container's log anew.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn reopen_log(&self, container: &str) -> Result<()> {
        self.cri.reopen_log(&named(container)).await?;
        Ok(())
    }

    /// Ends it.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn stop(&self) -> Result<()> {
        self.cri.stop_pod(&self.request()).await?;
        Ok(())
    }

    /// Ends and forgets it.
    ///
    /// # Errors
    /// containerd's refusal.
    pub async fn remove(&self) -> Result<()> {
        self.stop().await?;
        self.cri.remove_pod(&self.request()).await?;
        Ok(())
    }

    /// The file of a container's log.
    pub fn log_file(&self, container: &str, attempt: u32) -> PathBuf {
        self.logs.join(container).join(format!("{attempt}.log"))
    }

    /// What a container wrote to a stream (`stdout`, `stderr`), from its log file.
    ///
    /// # Errors
    /// Where the file cannot be read or is not of CRI's format: `TIME STREAM F|P TEXT`, `P` for a line that goes on.
    pub fn log(&self, container: &str, attempt: u32, stream: &str) -> Result<String> {
        let file = self.log_file(container, attempt);
        let text = fs::read(&file).with_context(|| file.display().to_string())?;
        let mut all = String::new();
        for line in String::from_utf8_lossy(&text).lines() {
            let mut parts = line.splitn(4, ' ');
            let (time, of, tag) = (parts.next(), parts.next(), parts.next());
            let (Some(time), Some(of), Some(tag), Some(text)) = (time, of, tag, parts.next()) else {
                bail!("{line:?} is no line of a container's log");
            };
            if !time.contains('T') || !matches!(of, "stdout" | "stderr") || !matches!(tag, "F" | "P") {
                bail!("{line:?} is no line of a container's log");
            }
            if of == stream {
                all.push_str(text);
                if tag == "F" {
                    all.push('\n');
                }
            }
        }
        Ok(all)
    }

    /// Waits until a container's standard output, as its log has it, holds this text.
    ///
    /// # Errors
    /// Where it does not in time: with all that it holds.
    pub async fn wait_for_log(&self, container: &str, attempt: u32, text: &str) -> Result<()> {
        let began = Instant::now();
        while !self.log(container, attempt, "stdout").is_ok_and(|log| log.contains(text)) {
            if began.elapsed() > LIMIT {
                bail!("{text:?} did not come:\n{}", self.all_logs());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    fn all_logs(&self) -> String {
        let mut all = String::new();
        for folder in fs::read_dir(&self.logs).into_iter().flatten().flatten() {
            for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
                let text = fs::read_to_string(file.path()).unwrap_or_default();
                let end: String = text.lines().rev().take(20).collect::<Vec<_>>().join("\n");
                all.push_str(&format!("{}, last line first:\n{end}\n", file.path().display()));
            }
        }
        all
    }

    fn request(&self) -> cri::PodSandboxId {
        cri::PodSandboxId { pod_sandbox_id: self.id.clone(), ..Default::default() }
    }
}

fn named(container: &str) -> cri::ContainerId {
    cri::ContainerId { container_id: container.into(), ..Default::default() }
}
