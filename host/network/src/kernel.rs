//! The questions asked of the kernel about a network namespace, and the requests made of it.

use futures_util::{Stream, StreamExt, TryStreamExt};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::tc::{TcHandle, TcMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{Handle, LinkUnspec};

use crate::Error;

/// Most answers read to one question; a namespace that holds more is no pod's.
const MAX_ANSWERS: usize = 4096;

/// rtnetlink(7) in the namespace of the thread that made it.
pub(crate) struct Kernel(Handle);

impl Kernel {
    /// Must run inside a runtime, on the thread that is in the namespace.
    ///
    /// # Errors
    /// [`Error::Kernel`].
    pub fn connect() -> Result<Self, Error> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::step("open netlink"))?;
        tokio::spawn(connection);
        Ok(Kernel(handle))
    }

    pub async fn links(&self) -> Result<Vec<LinkMessage>, Error> {
        all("list network devices", self.0.link().get().execute()).await
    }

    pub async fn addresses(&self) -> Result<Vec<AddressMessage>, Error> {
        all("list addresses", self.0.address().get().execute()).await
    }

    /// Of one family.
    pub async fn routes(&self, family: AddressFamily) -> Result<Vec<RouteMessage>, Error> {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        all("list routes", self.0.route().get(question).execute()).await
    }

    pub async fn neighbours(&self) -> Result<Vec<NeighbourMessage>, Error> {
        all("list neighbours", self.0.neighbours().get().execute()).await
    }

    /// The number of the device of this name.
    pub async fn index(&self, name: &str) -> Result<u32, Error> {
        let step = format!("find {name}");
        let mut answers = self.0.link().get().match_name(name.to_owned()).execute();
        let link = answers.try_next().await.map_err(Error::step(step.clone()))?;
        let none = || Error::Kernel { step, reason: "no such device".into() };
        Ok(link.ok_or_else(none)?.header.index)
    }

    /// Brings a device up with this MTU. It gets no IPv6 address of its own, and so has nothing to say there.
    pub async fn up_quietly(&self, index: u32, mtu: u32) -> Result<(), Error> {
        let quiet = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let quiet = LinkUnspec::new_with_index(index)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![quiet]))
            .build();
        // Where IPv6 is off there is nothing to be quiet about.
        if let Err(error) = self.0.link().set(quiet).execute().await {
            tracing::debug!(%error, "a tap keeps its IPv6 address");
        }
        let up = LinkUnspec::new_with_index(index).mtu(mtu).up().build();
        self.0.link().set(up).execute().await.map_err(Error::step("bring a tap up"))
    }

    /// Brings a device up as it is.
    pub async fn up(&self, index: u32) -> Result<(), Error> {
        let up = LinkUnspec::new_with_index(index).up().build();
        self.0.link().set(up).execute().await.map_err(Error::step("bring a device up"))
    }

    pub async fn delete(&self, index: u32) -> Result<(), Error> {
        self.0.link().del(index).execute().await.map_err(Error::step("remove a tap"))
    }

    /// The device's queueing disciplines.
    pub async fn disciplines(&self, index: i32) -> Result<Vec<TcMessage>, Error> {
        let mut all = all("list traffic control", self.0.qdisc().get().index(index).execute()).await?;
        // The kernel answers with those of every device.
        all.retain(|d| d.header.index == index);
        Ok(all)
    }

    /// The filters at the device's ingress.
    pub async fn filters(&self, index: i32) -> Result<Vec<TcMessage>, Error> {
        let mut filters = self.0.traffic_filter(index);
        let question = filters.get();
        let mut found = all("list traffic filters", question.ingress().execute()).await?;
        found.retain(|f| f.header.index == index);
        Ok(found)
    }

    pub async fn add_ingress(&self, index: i32) -> Result<(), rtnetlink::Error> {
        self.0.qdisc().add(index).ingress().execute().await
    }

    pub async fn delete_ingress(&self, index: i32) -> Result<(), rtnetlink::Error> {
        let mut request = self.0.qdisc().del(index);
        request.message_mut().header.parent = TcHandle::INGRESS;
        request.execute().await
    }

    pub async fn add_filter(&self, filter: TcMessage) -> Result<(), rtnetlink::Error> {
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewTrafficFilter(filter));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        let mut answers = self.0.clone().request(request)?;
        while let Some(answer) = answers.next().await {
            if let NetlinkPayload::Error(error) = answer.payload {
                return Err(rtnetlink::Error::NetlinkError(error));
            }
        }
        Ok(())
    }
}

async fn all<T>(
    step: &str,
    answers: impl Stream<Item = Result<T, rtnetlink::Error>>,
) -> Result<Vec<T>, Error> {
    let found: Vec<T> =
        answers.take(MAX_ANSWERS + 1).try_collect().await.map_err(Error::step(step.to_owned()))?;
    if found.len() > MAX_ANSWERS {
        return Err(Error::Kernel { step: step.to_owned(), reason: "more than a pod can have".into() });
    }
    Ok(found)
}
