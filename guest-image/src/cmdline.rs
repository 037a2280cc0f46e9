//! The guest's kernel command line.

/// The one kernel command line of every Cocoon guest. It is part of the launch measurement, so it is a
/// constant: whatever varies from pod to pod travels in initdata.
///
/// - `console=ttyS0 quiet loglevel=3`: errors only, on the serial port; each character costs a VM exit.
/// - `panic=-1 oops=panic`: a guest in an unknown state stops at once (with `-no-reboot`, QEMU ends).
/// - `tsc=reliable no_timer_check`: skip calibration loops that take long under emulation.
/// - `random.trust_cpu=on random.trust_bootloader=off`: the CPU's generator is inside the TEE, a seed from
///   the firmware tables comes from the host.
/// - `cgroup_no_v1=all`: containers get the unified hierarchy only.
/// - `cryptomgr.notests`: no start-up self-tests of the kernel's own ciphers, a third of an emulated boot.
pub const CMDLINE: &str = "console=ttyS0 quiet loglevel=3 panic=-1 oops=panic tsc=reliable no_timer_check \
     random.trust_cpu=on random.trust_bootloader=off cgroup_no_v1=all cryptomgr.notests";

#[cfg(test)]
mod tests {
    use super::CMDLINE;

    #[test]
    fn it_is_one_printable_line_that_fits_the_boot_protocol() {
        assert!(CMDLINE.bytes().all(|b| (0x20..0x7f).contains(&b)));
        assert!(!CMDLINE.contains("  ") && CMDLINE.trim() == CMDLINE);
        assert!(CMDLINE.len() < 2048, "x86's COMMAND_LINE_SIZE");
    }
}
