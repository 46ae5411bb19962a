mod replication_client;
