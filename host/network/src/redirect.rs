//! Traffic control that makes a tap and the pod's device one: whatever comes in at either leaves at the other.
//!
//! On each is an `ingress` queueing discipline with one filter, which takes every packet (`matchall`, or `u32` without a
//! condition where the kernel has no `matchall`) and redirects it (`mirred egress redirect`). tc-mirred(8), tc-u32(8).

use rtnetlink::packet_route::tc::{
    TcAction, TcActionAttribute, TcActionGeneric, TcActionMirror, TcActionMirrorOption, TcActionOption,
    TcActionType, TcAttribute, TcFilterMatchAll, TcFilterMatchAllOption, TcFilterU32, TcFilterU32Option,
    TcHandle, TcMessage, TcMirror, TcMirrorActionType, TcOption, TcU32Key, TcU32Selector, TcU32SelectorFlags,
};

use crate::Error;
use crate::kernel::Kernel;

/// The filters' preference, by which they are known again after a crash.
const PREFERENCE: u16 = 0xc0c0;

/// Sends all that comes in at `from` out of `to`. `name` is `from`'s, for errors.
///
/// # Errors
/// [`Error::Unsupported`] where others' traffic control is in the way, [`Error::Kernel`] where there is none to use.
pub(crate) async fn redirect(kernel: &Kernel, name: &str, from: u32, to: u32) -> Result<(), Error> {
    let index = number(from)?;
    if !remove(kernel, from).await? {
        return Err(Error::unsupported(name, "has traffic control of its own at its ingress"));
    }
    kernel.add_ingress(index).await.map_err(Error::step(format!("put traffic control on {name}")))?;
    let Err(refused) = kernel.add_filter(filter(index, Match::All, to)).await else { return Ok(()) };
    tracing::debug!(error = %refused, "no matchall classifier");
    let added = kernel.add_filter(filter(index, Match::U32, to)).await;
    added.map_err(Error::step(format!("redirect the packets of {name} (matchall and u32 were tried)")))
}

/// Takes the redirect of a device away, if there is one. `false` says that its traffic control is somebody else's, and
/// stays.
///
/// # Errors
/// [`Error::Kernel`].
pub(crate) async fn remove(kernel: &Kernel, device: u32) -> Result<bool, Error> {
    let index = number(device)?;
    let disciplines = kernel.disciplines(index).await?;
    let Some(ingress) = disciplines.iter().find(|d| d.header.parent == TcHandle::INGRESS) else {
        return Ok(true);
    };
    let plain = ingress.attributes.iter().any(|a| matches!(a, TcAttribute::Kind(kind) if kind == "ingress"));
    let ours =
        plain && kernel.filters(index).await?.iter().all(|f| f.header.info >> 16 == u32::from(PREFERENCE));
    if ours {
        kernel.delete_ingress(index).await.map_err(Error::step("take traffic control away"))?;
    }
    Ok(ours)
}

fn number(index: u32) -> Result<i32, Error> {
    let large = |_| Error::Kernel { step: "number a device".into(), reason: format!("{index} is too large") };
    i32::try_from(index).map_err(large)
}

/// How a filter takes every packet.
#[derive(Clone, Copy)]
enum Match {
    All,
    U32,
}

fn filter(from: i32, kind: Match, to: u32) -> TcMessage {
    let mut parameters = TcMirror::default();
    parameters.generic = TcActionGeneric::default();
    parameters.generic.action = TcActionType::Stolen;
    parameters.eaction = TcMirrorActionType::EgressRedir;
    parameters.ifindex = to;
    let mut action = TcAction::default();
    action.attributes = vec![
        TcActionAttribute::Kind(TcActionMirror::KIND.to_owned()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(parameters))]),
    ];
    let (kind, options) = match kind {
        Match::All => {
            let options = TcFilterMatchAllOption::Action(vec![action]);
            (TcFilterMatchAll::KIND, vec![TcOption::MatchAll(options)])
        }
        Match::U32 => {
            let mut selector = TcU32Selector::default();
            selector.flags = TcU32SelectorFlags::Terminal;
            // One key with no bits in its mask.
            selector.nkeys = 1;
            selector.keys = vec![TcU32Key::default()];
            let options = [TcFilterU32Option::Selector(selector), TcFilterU32Option::Action(vec![action])];
            (TcFilterU32::KIND, options.map(TcOption::U32).to_vec())
        }
    };
    let mut message = TcMessage::with_index(from);
    message.header.parent = TcHandle { major: 0xffff, minor: 0 };
    // Preference, then ETH_P_ALL in network order (linux/if_ether.h).
    message.header.info = u32::from(PREFERENCE) << 16 | u32::from(3_u16.to_be());
    message.attributes = vec![TcAttribute::Kind(kind.to_owned()), TcAttribute::Options(options)];
    message
}
