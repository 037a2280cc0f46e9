//! A booted pod: what it is asked, how it ends, and what its failures may say here.

use std::time::Duration;

use cocoon_sandbox_api::from_ttrpc;
use cocoon_sandbox_api::sandbox::{ShutdownRequest, StatusRequest};
use cocoon_stage::{Code, Failure, HostFailure, Stage};
use cocoon_vmm::Disk;

use crate::Pod;

impl Pod {
    /// The guest daemon's resident memory now and at its highest, in bytes.
    ///
    /// # Errors
    /// `SERVE-FAILED` where the guest does not answer.
    pub async fn guest_memory(&self) -> Result<(u64, u64), Failure> {
        let limit = ttrpc::context::with_duration(Duration::from_secs(10));
        let status = self.sandbox.status(limit, &StatusRequest::default()).await;
        let status = status.map_err(|e| self.failure_of(&e, Stage::Serve))?;
        Ok((status.rss_bytes, status.peak_rss_bytes))
    }

    /// QEMU's process id.
    pub fn vm_pid(&self) -> u32 {
        self.pid
    }

    /// Waits until the VM has ended; gives the first failure that the guest announced, else QEMU's words. Cancel-safe.
    pub async fn ended(&self) -> Failure {
        self.ending.clone().wait().await;
        let failure = self.failure.borrow().as_ref().map(from_guest);
        match failure {
            Some(failure) => failure,
            None => self.vm.lock().await.ended_error().into(),
        }
    }

    /// Gives the running VM a disk; one that it has already, by its serial number, once.
    ///
    /// # Errors
    /// `PLAN-INVALID` where it was booted with too few ports, `BOOT-QEMU-FAILED` with QEMU's words.
    pub async fn plug(&self, disk: &Disk) -> Result<(), Failure> {
        // Held throughout, so that two containers with one volume attach it once.
        let mut vm = self.vm.lock().await;
        let mut plugged = self.plugged.lock().await;
        if !plugged.contains(&disk.serial) {
            vm.plug(disk).await?;
            plugged.insert(disk.serial.clone());
        }
        Ok(())
    }

    /// Whether the VM has ended.
    pub fn has_ended(&self) -> bool {
        self.ending.is_over()
    }

    /// The next container in which memory ran out, as the guest says; `None` once the VM has ended. Cancel-safe.
    pub async fn out_of_memory(&self) -> Option<String> {
        self.out_of_memory.lock().await.recv().await
    }

    /// Stops the pod: asks the guest, then makes sure. The runtime folder goes when the pod is dropped.
    pub async fn shut_down(&self) {
        let limit = ttrpc::context::with_duration(Duration::from_secs(2));
        let asked = self.sandbox.shutdown(limit, &ShutdownRequest::default()).await;
        let ended = self.ending.clone().wait();
        if asked.is_ok() && tokio::time::timeout(Duration::from_secs(2), ended).await.is_ok() {
            return;
        }
        self.killer.kill().await;
    }

    /// Kills QEMU and waits until it is gone.
    pub async fn kill_vm(&self) {
        // Without the VM, which may be held by who waits for QEMU's answer.
        self.killer.kill().await;
    }

    /// As [`Pod::shut_down`], for who has the pod alone.
    pub async fn stop(self) {
        self.shut_down().await;
    }

    /// Stops the pod at once.
    pub async fn kill(self) {
        self.kill_vm().await;
    }

    /// The failure behind a ttrpc error: the guest's coded one, or the first that it announced, or the error itself.
    pub fn failure_of(&self, error: &ttrpc::Error, stage: Stage) -> Failure {
        if let Some(failure) = from_ttrpc(error) {
            return from_guest(&failure);
        }
        if let Some(failure) = self.failure.borrow().as_ref() {
            return from_guest(failure);
        }
        Failure::new(Code::ServeFailed, format!("the guest's answer: {error}")).at(stage)
    }
}

/// What the host may say of a guest's failure: its code's own summary.
fn from_guest(failure: &HostFailure) -> Failure {
    Failure {
        stage: failure.stage,
        code: failure.code,
        reason: match &failure.reason {
            // The guest's own words: bounded, and without what a terminal would act on.
            Some(said) => said.chars().filter(|c| !c.is_control()).take(200).collect(),
            None => failure.code.summary().to_owned(),
        },
        request_id: failure.request_id.clone().filter(|id| {
            // It goes into a URL and onto the owner's screen.
            id.len() <= 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        }),
    }
}
