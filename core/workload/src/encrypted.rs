//! Claims whose disks the guest encrypts.

use cocoon_plan::pod::VolumeSource;

use crate::log::Log;
use crate::settings::{Encryption, PREFIX};
use crate::template::Pod;
use crate::volumes::{Volume, Volumes};

/// Claims that the owner's annotation says to encrypt.
pub(crate) fn encrypt(volumes: &mut Volumes, pod: &Pod<'_>, gid: Option<u32>, log: &mut Log) {
    let note = format!("{}[{}encrypted-volumes]", pod.kind.path("metadata.annotations"), PREFIX);
    for (name, encryption) in &pod.settings.encrypted {
        match volumes.get_mut(name) {
            Some((at, volume @ Volume::Claim { file_system: false, .. })) => {
                let Volume::Claim { read_only, .. } = *volume else { continue };
                let Encryption { key, integrity } = encryption.clone();
                let how = if integrity { ", each block authenticated" } else { "" };
                log.fixed(
                    at,
                    format!("encrypted with {key}{how}"),
                    "the guest formats the disk when it is empty, and opens it with the key from Trustee; the node sees nothing of what is on it",
                );
                *volume =
                    Volume::Encrypted { source: VolumeSource::Encrypted { key, integrity, gid }, read_only };
            }
            Some((_, Volume::Refused)) => {}
            Some((at, _)) => {
                let at = if at.is_empty() { note.clone() } else { at.clone() };
                log.wrong(
                    &at,
                    format!("{name:?} is to be encrypted, and so must be a claim with volumeMode: Block"),
                );
            }
            None => log.wrong(&note, format!("there is no volume {name:?}")),
        }
    }
}
