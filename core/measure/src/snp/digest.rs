//! The running launch digest (AMD 56860, SNP_LAUNCH_UPDATE): a SHA-384 chain of one PAGE_INFO per page.

use aws_lc_rs::digest::{SHA384, digest};

/// A page: 4 KiB.
pub const PAGE: usize = 4096;

/// Guest-physical address under which every VMSA is measured: all ones, page-aligned, 52 bits.
const VMSA_GPA: u64 = 0xffff_ffff_f000;
/// Length of PAGE_INFO, which is also one of its fields.
const PAGE_INFO: u16 = 0x70;

/// What a page is (AMD 56860, PAGE_TYPE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageType {
    /// Initial content, measured.
    Normal = 1,
    /// A vCPU's register state, measured.
    Vmsa = 2,
    /// Zeros; only that it is there is measured.
    Zero = 3,
    /// Content the host may choose; only that it is there is measured.
    Unmeasured = 4,
    /// Filled in by the firmware with the guest's keys.
    Secrets = 5,
    /// CPUID values, checked by the firmware.
    Cpuid = 6,
}

/// The 48-byte digest while pages are added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchDigest([u8; 48]);

impl Default for LaunchDigest {
    fn default() -> Self {
        LaunchDigest([0; 48])
    }
}

impl LaunchDigest {
    /// The digest of a launch to which nothing was added: zeros.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on from a digest that was computed earlier, e.g. over the firmware alone.
    pub fn resume(value: [u8; 48]) -> Self {
        LaunchDigest(value)
    }

    /// Adds one page with content.
    pub fn update_page(&mut self, content: &[u8; PAGE], gpa: u64) {
        self.extend(PageType::Normal, gpa, sha384(content));
    }

    /// Adds pages with content, the first at `gpa`; a last partial page is filled with zeros.
    pub fn update_pages(&mut self, content: &[u8], gpa: u64) {
        let (pages, rest) = content.as_chunks::<PAGE>();
        let mut gpa = gpa;
        for page in pages {
            self.update_page(page, gpa);
            gpa = gpa.wrapping_add(PAGE as u64);
        }
        if !rest.is_empty() {
            let mut page = [0; PAGE];
            page.iter_mut().zip(rest).for_each(|(p, r)| *p = *r);
            self.update_page(&page, gpa);
        }
    }

    /// Adds a vCPU's VMSA page.
    pub fn update_vmsa(&mut self, page: &[u8; PAGE]) {
        self.extend(PageType::Vmsa, VMSA_GPA, sha384(page));
    }

    /// Adds `pages` pages whose content is not measured, of a type other than `Normal` and `Vmsa`.
    pub fn update_contentless(&mut self, page_type: PageType, gpa: u64, pages: u32) {
        for page in 0..u64::from(pages) {
            self.extend(page_type, gpa.wrapping_add(page * PAGE as u64), [0; 48]);
        }
    }

    /// The digest so far.
    pub fn value(&self) -> [u8; 48] {
        self.0
    }

    /// PAGE_INFO: digest so far, content digest, length, type, IMI flag, VMPL 3..1 permissions, reserved, address.
    fn extend(&mut self, page_type: PageType, gpa: u64, content: [u8; 48]) {
        let mut info = Vec::with_capacity(usize::from(PAGE_INFO));
        info.extend(self.0);
        info.extend(content);
        info.extend(PAGE_INFO.to_le_bytes());
        info.extend([page_type as u8, 0, 0, 0, 0, 0]);
        info.extend(gpa.to_le_bytes());
        self.0 = sha384(&info);
    }
}

fn sha384(bytes: &[u8]) -> [u8; 48] {
    let mut out = [0; 48];
    out.iter_mut().zip(digest(&SHA384, bytes).as_ref()).for_each(|(o, d)| *o = *d);
    out
}
