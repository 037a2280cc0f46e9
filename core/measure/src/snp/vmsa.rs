//! The register state in which QEMU and KVM start a vCPU (AMD APM volume 2, table B-4), one measured page per vCPU.

use super::digest::PAGE;

/// Where the first vCPU starts: the architectural reset vector, 16 bytes below 4 GiB.
pub const RESET_VECTOR: u32 = 0xffff_fff0;

/// Initial state of one vCPU; all vCPUs but the first start at the address the firmware's reset block names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vmsa {
    /// Start address; its upper half is the code segment's base.
    pub eip: u32,
    /// CPUID signature of the CPU model, which the reset leaves in RDX.
    pub cpu_signature: u32,
    /// SEV_FEATURES.
    pub guest_features: u64,
}

impl Vmsa {
    /// The page as it is measured.
    pub fn page(&self) -> [u8; PAGE] {
        let mut page = Page([0; PAGE]);
        let base = u64::from(self.eip & 0xffff_0000);
        // selector, attributes, limit, base
        page.segment(0x000, 0, 0x93, 0); // ES
        page.segment(0x010, 0xf000, 0x9b, base); // CS
        page.segment(0x020, 0, 0x93, 0); // SS
        page.segment(0x030, 0, 0x93, 0); // DS
        page.segment(0x040, 0, 0x93, 0); // FS
        page.segment(0x050, 0, 0x93, 0); // GS
        page.segment(0x060, 0, 0, 0); // GDTR
        page.segment(0x070, 0, 0x82, 0); // LDTR
        page.segment(0x080, 0, 0, 0); // IDTR
        page.segment(0x090, 0, 0x8b, 0); // TR
        page.put(0x0d0, &0x1000_u64.to_le_bytes()); // EFER: SVME
        page.put(0x148, &0x40_u64.to_le_bytes()); // CR4: MCE
        page.put(0x158, &0x10_u64.to_le_bytes()); // CR0: ET
        page.put(0x160, &0x400_u64.to_le_bytes()); // DR7
        page.put(0x168, &0xffff_0ff0_u64.to_le_bytes()); // DR6
        page.put(0x170, &0x2_u64.to_le_bytes()); // RFLAGS
        page.put(0x178, &u64::from(self.eip & 0xffff).to_le_bytes()); // RIP
        page.put(0x268, &0x0007_0406_0007_0406_u64.to_le_bytes()); // G_PAT
        page.put(0x310, &u64::from(self.cpu_signature).to_le_bytes()); // RDX
        page.put(0x3b0, &self.guest_features.to_le_bytes()); // SEV_FEATURES
        page.put(0x3e8, &0x1_u64.to_le_bytes()); // XCR0
        page.put(0x408, &0x1f80_u32.to_le_bytes()); // MXCSR
        page.put(0x410, &0x037f_u16.to_le_bytes()); // x87 FCW
        page.0
    }
}

struct Page([u8; PAGE]);

impl Page {
    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.0.iter_mut().skip(at).zip(bytes).for_each(|(p, b)| *p = *b);
    }

    fn segment(&mut self, at: usize, selector: u16, attributes: u16, base: u64) {
        self.put(at, &selector.to_le_bytes());
        self.put(at + 2, &attributes.to_le_bytes());
        self.put(at + 4, &0xffff_u32.to_le_bytes());
        self.put(at + 8, &base.to_le_bytes());
    }
}
