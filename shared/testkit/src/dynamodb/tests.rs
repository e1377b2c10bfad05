use aws_sdk_dynamodb::types::AttributeValue;

use super::*;

fn tenant(name: &str) -> AttributeValue {
    AttributeValue::S(name.to_owned())
}

#[tokio::test]
async fn tables_of_every_key_type_are_filled_and_counted() {
    for server in Server::all().await.unwrap() {
        for key_type in [KeyType::S, KeyType::N, KeyType::B] {
            let table = Table::new(&format!("by-{key_type:?}"), "order-id", key_type)
                .sorted_by("status", key_type)
                .local_index("placed", KeyType::N)
                .global_index("region", KeyType::S);
            server.create_table(&table).await.unwrap();
            server
                .fill(&table, &Fill::new(key_type.value(1), 0..103).payload(10))
                .await
                .unwrap();
            server
                .fill(&table, &Fill::new(key_type.value(2), 0..7))
                .await
                .unwrap();
            let name = server.name();
            assert_eq!(
                server.count_partition(&table, key_type.value(1)).await.unwrap(),
                103,
                "{name}"
            );
            assert_eq!(
                server.count_partition(&table, key_type.value(2)).await.unwrap(),
                7,
                "{name}"
            );
            assert_eq!(server.count_table(&table).await.unwrap(), 110, "{name}");
        }
    }
}

#[tokio::test]
async fn a_partition_of_several_pages_is_counted_to_its_end() {
    let server = Server::embedded().unwrap();
    let table = Table::new("pages", "pk", KeyType::S).sorted_by("sk", KeyType::N);
    server.create_table(&table).await.unwrap();
    server
        .fill(&table, &Fill::new(tenant("a"), 0..300).payload(10_000))
        .await
        .unwrap();
    assert_eq!(server.count_partition(&table, tenant("a")).await.unwrap(), 300);
    assert_eq!(server.count_table(&table).await.unwrap(), 300);
}

#[tokio::test]
async fn a_recreated_table_is_empty_and_another() {
    for server in Server::all().await.unwrap() {
        let table = Table::new("again", "pk", KeyType::S);
        server.create_table(&table).await.unwrap();
        server.fill(&table, &Fill::new(tenant("a"), 0..1)).await.unwrap();
        let id = async || {
            let described = server
                .client()
                .describe_table()
                .table_name("again")
                .send()
                .await
                .unwrap();
            described.table.unwrap().table_id
        };
        let before = id().await;
        server.recreate_table(&table).await.unwrap();
        // DynamoDB Local gives tables no id.
        assert!(before.is_none() || id().await != before, "{}", server.name());
        assert_eq!(server.count_table(&table).await.unwrap(), 0);
    }
}

#[test]
fn a_server_outlives_the_runtime_that_started_it_and_ends_with_its_handle() {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    };
    let server = runtime().block_on(async { Server::embedded().unwrap() });
    let table = Table::new("outlives", "pk", KeyType::S);
    runtime().block_on(server.create_table(&table)).unwrap();
    assert_eq!(runtime().block_on(server.count_table(&table)).unwrap(), 0);
    let address = server.address();
    drop(server);
    assert!(std::net::TcpStream::connect(address).is_err());
}
