package transfer

// BulkPipe is the size of a pipe for a large output, in bytes.
const BulkPipe = bulkPipe
