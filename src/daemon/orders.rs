//! Carrying out what people ask for by way of the journal.

use std::time::Duration;

use tracing::{info, warn};

use crate::event::Report;
use crate::journal::{Journal, JournalError, Order, OrderProgress, OrderStep, Wish};

use super::dispatchers::Handles;

/// How often it is looked for new orders: a read of one small table.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Between attempts while the journal cannot be read or written.
const RETRY_EVERY: Duration = Duration::from_secs(5);

/// Carries out orders as they come, until it is dropped or the journal is closed. One that is
/// interrupted is carried out again at the next start.
pub(super) async fn run(journal: Journal, handles: Handles) {
    let configured = handles.names();
    let mut said = String::new();
    loop {
        match carry_out(&journal, &handles, &configured).await {
            Ok(()) => tokio::time::sleep(LOOK_EVERY).await,
            Err(error) if error.is_closed() => return,
            Err(error) => {
                let problem = error.to_string();
                if problem != said {
                    warn!("orders cannot be carried out, trying again: {problem}");
                    said = problem;
                }
                tokio::time::sleep(RETRY_EVERY).await;
            }
        }
    }
}

/// Carries out the orders given so far, where no dispatcher is at work: before the daemon starts
/// them, or in a command while no daemon runs. The endpoints of `configured` are not forgotten.
///
/// # Errors
/// The journal cannot be read or written.
pub async fn carry_out_orders(
    journal: &Journal,
    configured: &[String],
) -> Result<(), JournalError> {
    carry_out(journal, &Handles::default(), configured).await
}

async fn carry_out(
    journal: &Journal,
    handles: &Handles,
    configured: &[String],
) -> Result<(), JournalError> {
    for order in journal.orders().await? {
        let Order { id, wish } = order;
        match wish {
            Ok(Wish::Forget { endpoint }) if configured.contains(&endpoint) => {
                let sentence = format!(
                    "endpoint {endpoint} is in the configuration: take it out, and restart \
                     walhook, first"
                );
                journal.finish_order(id, &sentence, true).await?;
            }
            Ok(wish) => carry_out_one(journal, handles, id, wish).await?,
            Err(problem) => journal.finish_order(id, &problem, true).await?,
        }
    }
    Ok(())
}

async fn carry_out_one(
    journal: &Journal,
    handles: &Handles,
    order: i64,
    wish: Wish,
) -> Result<(), JournalError> {
    let endpoints = journal.order_endpoints(&wish).await?;
    if endpoints.is_empty() {
        return journal.finish_order(order, "no delivery is dead", false).await;
    }
    let mut progress = OrderProgress::default();
    for (place, endpoint) in endpoints.iter().enumerate() {
        // Who is not one of the daemon's has no dispatcher.
        let standstill = match wish.concerns_dispatcher() && handles.has(endpoint) {
            true => match handles.stand_still(endpoint).await {
                Some(standstill) => Some(standstill),
                // The daemon stops: the order waits for the next one.
                None => return Ok(()),
            },
            false => None,
        };
        progress = progress.next_endpoint();
        while !progress.done {
            let step = OrderStep {
                order,
                wish: wish.clone(),
                endpoint: endpoint.clone(),
                last: place + 1 == endpoints.len(),
                progress,
            };
            progress = journal.carry_out(step).await?;
        }
        drop(standstill);
        if progress.failed {
            warn!(order, "an order was not carried out: {}", progress.said());
            return Ok(());
        }
    }
    info!(order, "an order is carried out: {}", progress.said());
    if let Wish::Disable { endpoint, reason } = wish {
        journal.report(Report::EndpointDisabled { endpoint, reason });
    }
    Ok(())
}
