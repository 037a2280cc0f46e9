//! What a guest begins with: a plan in its initdata, or, where its image is a developer's, none.

use cocoon_plan::images::ImageSettings;
use cocoon_plan::{PLAN_FILE, Plan};
use cocoon_protocol::initdata::InitData;
use cocoon_stage::{Code, Failure};

/// How images are reached without a plan: what would be `images` in one, JSON.
const IMAGES_FILE: &str = "images.json";

/// What a guest begins with.
pub(crate) enum Beginning {
    /// A plan, and the initdata that holds it.
    Planned(Box<InitData>, Box<Plan>),
    /// No plan; how images are reached, and the initdata where there is one that names a Trustee.
    Open(Box<ImageSettings>, Option<Box<InitData>>),
}

impl Beginning {
    /// What this initdata means to a guest that may run open, or may not.
    ///
    /// # Errors
    /// `INITDATA-…`, `PLAN-…`. A plan that cannot be used is never as good as none.
    pub(crate) fn of(initdata: Result<InitData, Failure>, developer: bool) -> Result<Self, Failure> {
        match initdata {
            Err(failure) if developer && failure.code == Code::InitdataMissing => {
                Ok(Beginning::Open(Box::default(), None))
            }
            Err(failure) => Err(failure),
            Ok(data) if developer && data.file(PLAN_FILE).is_none() => {
                let images = data.file(IMAGES_FILE).map(ImageSettings::parse).transpose()?;
                let trustee = data.file("aa.toml").is_some();
                Ok(Beginning::Open(Box::new(images.unwrap_or_default()), trustee.then(|| Box::new(data))))
            }
            Ok(data) => plan_of(&data).map(|plan| Beginning::Planned(Box::new(data), Box::new(plan))),
        }
    }
}

/// The plan in this initdata.
///
/// # Errors
/// `INITDATA-MALFORMED`, `PLAN-…`.
pub(crate) fn plan_of(data: &InitData) -> Result<Plan, Failure> {
    let text = data.file(PLAN_FILE);
    let text =
        text.ok_or_else(|| Failure::new(Code::InitdataMalformed, format!("initdata has no {PLAN_FILE}")))?;
    Ok(Plan::parse(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use cocoon_protocol::HashAlgorithm;

    use super::*;

    fn data(files: &[(&str, &str)]) -> Result<InitData, Failure> {
        let files = files.iter().map(|(n, c)| ((*n).to_owned(), (*c).to_owned())).collect();
        Ok(InitData::new(HashAlgorithm::Sha256, files))
    }

    #[test]
    fn only_a_developers_guest_runs_open_and_only_without_a_plan() {
        let missing = || Err(Failure::new(Code::InitdataMissing, "none"));
        let code = |initdata, developer| Beginning::of(initdata, developer).err().map(|f| f.code);
        assert_eq!(code(missing(), false), Some(Code::InitdataMissing));
        assert_eq!(code(data(&[]), false), Some(Code::InitdataMalformed));
        assert!(matches!(Beginning::of(missing(), true), Ok(Beginning::Open(_, None))));
        assert!(matches!(Beginning::of(data(&[]), true), Ok(Beginning::Open(_, None))));
        let named = Beginning::of(data(&[("aa.toml", "x")]), true);
        assert!(matches!(named, Ok(Beginning::Open(_, Some(_)))));
        for developer in [false, true] {
            assert_eq!(code(data(&[(PLAN_FILE, "{")]), developer), Some(Code::PlanInvalid));
            let broken = Err(Failure::new(Code::InitdataMalformed, "x"));
            assert_eq!(code(broken, developer), Some(Code::InitdataMalformed));
        }
    }

    #[test]
    fn an_open_guest_is_told_how_images_are_reached() {
        let of = |text| Beginning::of(data(&[(IMAGES_FILE, text)]), true);
        let Ok(Beginning::Open(images, None)) = of(r#"{"plain_http": ["registry.lab:5000"]}"#) else {
            panic!("it does not run open");
        };
        assert_eq!(images.plain_http, ["registry.lab:5000"]);
        for bad in ["", "[]", r#"{"plain_http": [""]}"#, r#"{"plain": []}"#] {
            assert_eq!(of(bad).err().map(|f| f.code), Some(Code::PlanInvalid), "{bad}");
        }
        // With a plan, which says so itself, it counts for nothing.
        let both = data(&[(IMAGES_FILE, "{}"), (PLAN_FILE, "{")]);
        assert_eq!(Beginning::of(both, true).err().map(|f| f.code), Some(Code::PlanInvalid));
        let production = data(&[(IMAGES_FILE, "{}")]);
        assert_eq!(Beginning::of(production, false).err().map(|f| f.code), Some(Code::InitdataMalformed));
    }
}
