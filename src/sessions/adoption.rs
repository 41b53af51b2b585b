//! A refresh token that the store has never seen begins a session, unless it was revoked before anybody knew it.

use crate::store::{Sql, StoreError, Transaction, query};

/// Whether something was revoked that a token without a recorded session is meant by. Until the transaction ends nothing is
/// revoked in any store of several gateways, so what is recorded is seen by whoever revokes next.
pub(super) async fn is_revoked(
    transaction: &mut Transaction,
    sid: &str,
    user_id: &str,
    issued_at_ms: Option<i64>,
) -> Result<bool, StoreError> {
    let alone = Sql::of(
        "SELECT value FROM revisions WHERE topic = 'users'",
        "SELECT value FROM revisions WHERE topic = 'revocations' FOR UPDATE",
    );
    query(alone).fetch_one(transaction).await?;
    // What does not say when it was issued may always have been issued before.
    let row = query(
        "SELECT EXISTS (SELECT 1 FROM revocations WHERE sid = $1 \
         OR issued_until >= $2 AND (user_id IS NULL OR user_id = $3)) AS revoked",
    )
    .bind(sid)
    .bind(issued_at_ms.unwrap_or(i64::MIN))
    .bind(user_id)
    .fetch_one(transaction)
    .await?;
    row.get("revoked")
}
