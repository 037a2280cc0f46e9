//! One fetch per need, however many callers wait for it; it goes on when they leave.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use cocoon_evidence::collateral::Need;
use tokio::sync::watch;

use crate::Error;
use crate::entry::Entry;

/// Most fetches at once; further callers are told so.
const MAX_FLIGHTS: usize = 256;

/// What a flight brought: the best document there is, and why there is none better.
#[derive(Clone, Debug, Default)]
pub(crate) struct Landed {
    pub entry: Option<Arc<Entry>>,
    pub error: Option<Error>,
}

pub(crate) type Ticket = watch::Receiver<Option<Landed>>;

/// The flights under way.
#[derive(Clone, Default)]
pub(crate) struct Flights(Arc<Mutex<HashMap<Need, Ticket>>>);

/// Takes a flight off the board, also when its task is dropped or panics.
struct Departure(Flights, Need);

impl Drop for Departure {
    fn drop(&mut self) {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

impl Flights {
    /// Joins the need's flight, or starts it.
    ///
    /// # Errors
    /// [`Error::Busy`].
    pub fn join<F>(&self, need: &Need, work: impl FnOnce() -> F) -> Result<Ticket, Error>
    where
        F: Future<Output = Landed> + Send + 'static,
    {
        let mut flights = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ticket) = flights.get(need) {
            return Ok(ticket.clone());
        }
        if flights.len() >= MAX_FLIGHTS {
            return Err(Error::Busy);
        }
        let (landing, ticket) = watch::channel(None);
        flights.insert(need.clone(), ticket.clone());
        let departure = Departure(self.clone(), need.clone());
        let work = work();
        tokio::spawn(async move {
            let landed = work.await;
            drop(departure);
            let _ = landing.send(Some(landed));
        });
        Ok(ticket)
    }
}

/// Waits for the flight to land.
pub(crate) async fn wait(mut ticket: Ticket) -> Landed {
    match ticket.wait_for(Option::is_some).await {
        Ok(landed) => landed.clone().unwrap_or_default(),
        // Its task died; the next caller starts another.
        Err(_) => Landed { entry: None, error: Some(Error::Busy) },
    }
}
