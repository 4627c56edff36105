//! Stand-in until the merge.
use crate::crypto::jcs;
use crate::model::SealRecord;
/// x
pub fn claimed_commits(_body: &str) -> Vec<String> {
    Vec::new()
}
/// x
pub fn provenance_body(writers: &[serde_json::Value], _more: u64) -> Result<String, jcs::JcsError> {
    jcs::canonical(&serde_json::json!({"v":1,"writers":writers}))
}
/// x
pub fn provenance_statement(record: &SealRecord, origin: &str, body: &str) -> Result<String, jcs::JcsError> {
    jcs::canonical(&serde_json::json!({"p":record.path.as_str(),"o":origin,"b":body}))
}
