//! Package `reference`.

/// `ReferenceValueQueryRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct QueryRequest {
    #[prost(string, tag = "1")]
    pub reference_value_id: String,
}

/// `ReferenceValueQueryResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct QueryResponse {
    /// JSON text.
    #[prost(string, optional, tag = "1")]
    pub reference_value_results: Option<String>,
}

/// `ReferenceValueRegisterRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RegisterRequest {
    #[prost(string, tag = "1")]
    pub message: String,
}
