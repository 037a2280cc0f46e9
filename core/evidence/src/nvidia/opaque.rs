//! The opaque data of a report: NVIDIA's list of type (2), length (2) and value, little-endian.
//!
//! Source: NVIDIA nvtrust, `spdm_msrt_resp_msg.py` of the GPU and of the switch verifier, for types and their forms. The
//! names of the fields are those of CoCo's verifier. A type that is not known, or one that occurs twice, is refused: what
//! it would mean is unknown.

use serde_json::{Map, Value, json};

use super::evidence::Architecture;
use crate::Error;
use crate::reader::Reader;

const WHAT: &str = "NVIDIA opaque data";
const DRIVER_VERSION: u16 = 3;
const VBIOS_VERSION: u16 = 6;
const NVDEC0_STATUS: u16 = 11;
const MEASUREMENT_COUNT: u16 = 12;
const CHIP_SKU: u16 = 15;
const CHIP_SKU_MOD: u16 = 16;
const PROJECT: u16 = 17;
const PROJECT_SKU: u16 = 18;
const FWID: u16 = 20;
const PROTECTED_PCIE_STATUS: u16 = 21;
/// A GPU's list of the switches on its links; a switch's own identity.
const SWITCH_PDI: u16 = 22;
const SWITCH_GPU_PDIS: u16 = 26;
const OPAQUE_DATA_VERSION: u16 = 34;
const CHIP_INFO: u16 = 35;
const FEATURE_FLAG: u16 = 36;
/// Types and names; the named constants above are among them.
const NAMES: [(u16, &str); 31] = [
    (1, "cert_issuer_name"),
    (2, "cert_authority_key_identifier"),
    (DRIVER_VERSION, "driver_version"),
    (4, "gpu_info"),
    (5, "id_sku"),
    (VBIOS_VERSION, "vbios_version"),
    (7, "manufacturer_id"),
    (8, "tamper_detection"),
    (9, "smc"),
    (10, "vpr"),
    (NVDEC0_STATUS, "nvdec0_status"),
    (MEASUREMENT_COUNT, "measurement_count"),
    (13, "cpr_info"),
    (14, "board_id"),
    (CHIP_SKU, "chip_sku"),
    (CHIP_SKU_MOD, "chip_sku_mod"),
    (PROJECT, "project"),
    (PROJECT_SKU, "project_sku"),
    (19, "project_sku_mod"),
    (FWID, "fwid"),
    (PROTECTED_PCIE_STATUS, "protected_pcie_status"),
    (SWITCH_PDI, "switch_pdi"),
    (23, "floorswept_ports"),
    (24, "position_id"),
    (25, "lock_switch_status"),
    (SWITCH_GPU_PDIS, "switch_gpu_pdis"),
    (32, "gpu_link_conn"),
    (33, "sys_enable_status"),
    (OPAQUE_DATA_VERSION, "opaque_data_version"),
    (CHIP_INFO, "chip_info"),
    (FEATURE_FLAG, "feature_flag"),
];

/// What NVDEC0's status says when that engine is off, whose measurement then means nothing.
const NVDEC0_DISABLED: u8 = 0x55;
/// Longest text.
const MAX_TEXT: usize = 32;
/// Identities of GPUs in a switch's list; a map of ports follows them.
const SWITCH_GPUS: usize = 8;

/// What a device says of itself, signed with the report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opaque {
    /// Driver, e.g. `550.90.07`; a switch has none.
    pub driver_version: Option<String>,
    /// Firmware, e.g. `96.00.9f.00.01`, lower case.
    pub vbios_version: String,
    /// Measured firmware the report's key belongs to; a switch does not say it.
    pub fwid: Option<[u8; 48]>,
    /// Board project, e.g. `1010`.
    pub project: Option<String>,
    /// Board SKU, e.g. `0200`.
    pub project_sku: Option<String>,
    /// Chip SKU, e.g. `882`.
    pub chip_sku: Option<String>,
    /// Chip, e.g. `GB100`; Hopper does not say it.
    pub chip: Option<String>,
    /// Whether the video decoder NVDEC0 is off.
    pub nvdec0_disabled: bool,
    /// A GPU: identities of the switches at its links. A switch: its own.
    pub switch_pdis: Vec<[u8; 8]>,
    /// A switch: identities of the GPUs at its ports.
    pub gpu_pdis: Vec<[u8; 8]>,
    /// All fields by name, as claims.
    pub fields: Map<String, Value>,
}

impl Opaque {
    /// Parses opaque data.
    pub(super) fn parse(bytes: &[u8], architecture: Architecture) -> Result<Self, Error> {
        let mut r = Reader::new(WHAT, bytes);
        let mut opaque = Opaque::default();
        while !r.is_empty() {
            let kind = r.u16_le()?;
            let length = usize::from(r.u16_le()?);
            let value = r.take(length)?;
            let Some((_, name)) = NAMES.iter().find(|(known, _)| *known == kind) else {
                return Err(Error::Unsupported { what: "NVIDIA opaque field", got: kind.to_string() });
            };
            if opaque.fields.contains_key(*name) {
                return Err(r.error(format_args!("{name} occurs twice")));
            }
            let malformed = || r.error(format_args!("{name} is malformed"));
            let claim = opaque.field(kind, value, architecture).ok_or_else(malformed)?;
            opaque.fields.insert((*name).to_owned(), claim);
        }
        let missing = |reason| Err(Reader::new(WHAT, bytes).error(reason));
        if opaque.vbios_version.is_empty() {
            return missing("no firmware version");
        }
        if architecture.is_gpu() && (opaque.driver_version.is_none() || opaque.fwid.is_none()) {
            return missing("a GPU without driver version or FWID");
        }
        // In the order of names, as a map without order would be printed.
        opaque.fields.sort_keys();
        Ok(opaque)
    }

    /// Keeps a field and gives it as claim; `None` where it is malformed.
    fn field(&mut self, kind: u16, value: &[u8], architecture: Architecture) -> Option<Value> {
        Some(match kind {
            DRIVER_VERSION => keep(&mut self.driver_version, text(value)?),
            CHIP_SKU => keep(&mut self.chip_sku, text(value)?),
            PROJECT => keep(&mut self.project, text(value)?),
            PROJECT_SKU => keep(&mut self.project_sku, text(value)?),
            CHIP_INFO => keep(&mut self.chip, text(value)?),
            CHIP_SKU_MOD => json!(text(value)?),
            VBIOS_VERSION => {
                self.vbios_version = firmware_version(value, architecture)?;
                json!(self.vbios_version)
            }
            FWID => {
                self.fwid = Some(value.try_into().ok()?);
                json!(hex::encode(value))
            }
            NVDEC0_STATUS => {
                let [status] = value else { return None };
                self.nvdec0_disabled = *status == NVDEC0_DISABLED;
                status_text(value)
            }
            PROTECTED_PCIE_STATUS => status_text(value),
            MEASUREMENT_COUNT => counts(value)?,
            SWITCH_PDI => {
                self.switch_pdis = pdis(value)?;
                match (architecture.is_gpu(), self.switch_pdis.as_slice()) {
                    (false, [_]) => json!(hex::encode(value)),
                    (false, _) => return None,
                    (true, all) => all.iter().map(|pdi| json!(hex::encode(pdi))).collect(),
                }
            }
            SWITCH_GPU_PDIS => {
                let (identities, ports) = value.split_at_checked(8 * SWITCH_GPUS)?;
                self.gpu_pdis = pdis(identities)?;
                let list: Value = self.gpu_pdis.iter().map(|pdi| json!(hex::encode(pdi))).collect();
                json!({ "gpus": list, "ports": hex::encode(ports) })
            }
            OPAQUE_DATA_VERSION => json!(number(value)?),
            FEATURE_FLAG => match number(value)? {
                0 => json!("SPT"),
                1 => json!("MPT"),
                2 => json!("PPCIE"),
                _ => json!("unknown"),
            },
            _ => json!(hex::encode(value)),
        })
    }
}

fn keep(place: &mut Option<String>, text: String) -> Value {
    let value = json!(text);
    *place = Some(text);
    value
}

/// Letters, digits and dots, padded with zeros: these texts become part of a manifest's id.
fn text(value: &[u8]) -> Option<String> {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    let (text, padding) = value.split_at_checked(end)?;
    let plain = text.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'.');
    let fits = !text.is_empty() && text.len() <= MAX_TEXT && plain && padding.iter().all(|b| *b == 0);
    std::str::from_utf8(text).ok().filter(|_| fits).map(str::to_owned)
}

/// A GPU's: eight bytes, of which the first four reversed and the fifth are the numbers. A switch's: text.
fn firmware_version(value: &[u8], architecture: Architecture) -> Option<String> {
    if !architecture.is_gpu() {
        return text(value).map(|text| text.to_ascii_lowercase());
    }
    let [a, b, c, d, e, ..] = *<&[u8; 8]>::try_from(value).ok()?;
    Some(format!("{d:02x}.{c:02x}.{b:02x}.{a:02x}.{e:02x}"))
}

/// As CoCo's verifier shows one: `U` for 0x55. What is not printable is shown in hex.
fn status_text(value: &[u8]) -> Value {
    match value {
        [letter] if letter.is_ascii_graphic() => json!(char::from(*letter)),
        other => json!(hex::encode(other)),
    }
}

/// How many measurements went into each index, counted from 1.
fn counts(value: &[u8]) -> Option<Value> {
    let (counts, []) = value.as_chunks::<4>() else { return None };
    let mut map = Map::new();
    for (index, count) in (1u32..).zip(counts) {
        map.insert(index.to_string(), json!(u32::from_le_bytes(*count)));
    }
    map.sort_keys();
    Some(Value::Object(map))
}

fn pdis(value: &[u8]) -> Option<Vec<[u8; 8]>> {
    match value.as_chunks::<8>() {
        (pdis, []) => Some(pdis.to_vec()),
        _ => None,
    }
}

fn number(value: &[u8]) -> Option<u64> {
    let mut bytes = [0; 8];
    bytes.get_mut(..value.len())?.copy_from_slice(value);
    Some(u64::from_le_bytes(bytes))
}
