//! What a database has that other accounts than root have defined: no dump has those.

use mysql_controller::database::program::{Origin, Policy};

use crate::site::{Site, order};

/// Names that have a meaning where somebody forgets to quote them. Both accounts come again only after the restore.
const ACCOUNTS: &str = r#"
CREATE USER 'a`p''p\\ "x;'@'%' IDENTIFIED BY 'x'; GRANT ALL ON *.* TO 'a`p''p\\ "x;'@'%';
CREATE USER 'o"th`er'@'10.0.0.%' IDENTIFIED BY 'x'; GRANT ALL ON *.* TO 'o"th`er'@'10.0.0.%';
"#;
/// Each builds on the one before, and is made after it: mysqldump goes by the alphabet.
const CONTENT: &str = r#"
CREATE TABLE test (id INT, words TEXT);
INSERT INTO test VALUES (1, '\n/*!50013 DEFINER=`nobody`@`%` SQL SECURITY DEFINER */\n');
CREATE DEFINER='a`p''p\\ "x;'@'%' VIEW view_1 AS SELECT id FROM test;
CREATE DEFINER='root'@'%' VIEW view_2 AS SELECT id FROM view_1;
SET sql_mode = 'ANSI_QUOTES';
CREATE DEFINER="o""th`er"@"10.0.0.%" FUNCTION four() RETURNS INT DETERMINISTIC RETURN 4;
SET sql_mode = DEFAULT;
CREATE DEFINER='a`p''p\\ "x;'@'%' VIEW view_3 AS SELECT four(), id FROM view_2;
CREATE DEFINER='a`p''p\\ "x;'@'%' VIEW view_4 AS SELECT * FROM view_3;
CREATE DEFINER='a`p''p\\ "x;'@'%' TRIGGER mark BEFORE INSERT ON test FOR EACH ROW SET NEW.words = 'marked';
CREATE DEFINER='a`p''p\\ "x;'@'%' EVENT later ON SCHEDULE AT '2099-01-01' DO DELETE FROM test;
"#;
const SEEN: &str = "SELECT * FROM view_4";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smoke_what_other_accounts_have_defined_on_one_anothers_is_restored_and_answers_when_they_are_made_again()
 {
    let site = Site::new().await;
    site.restore(Policy::Never, None).await.origin();
    let server = site.server(&[]).await;
    server.sql(ACCOUNTS).await;
    server.sql(CONTENT).await;
    let before = server.sql(SEEN).await;
    assert_eq!(before, "4\t1");
    site.backup(&order("b1"), &server, &[]).await.backup();
    server.stop().await;
    site.lose_volume("data").await;
    let ended = site.restore(Policy::Required, None).await;
    assert!(matches!(ended.origin(), Origin::Backup(_)), "{ended:?}");
    let server = site.server(&[]).await;
    let others = "SELECT user, host FROM mysql.user WHERE user NOT LIKE 'mysql.%' ORDER BY host";
    assert_eq!(server.sql(others).await, "root\t%\nroot\tlocalhost");
    let refused = server.sql_as(crate::site::PASSWORD, SEEN).await.unwrap_err();
    assert!(refused.contains("1449"), "{refused}");
    server.sql(ACCOUNTS).await;
    assert_eq!(server.sql(SEEN).await, before);
    server.sql("INSERT INTO test VALUES (2, '')").await;
    let marked = "SELECT words FROM test WHERE id = 2";
    assert_eq!(server.sql(marked).await, "marked");
    // No replica hears of accounts that were there for the load alone.
    let said = server.sql("SHOW BINLOG EVENTS IN 'binlog.000001'").await;
    assert!(!said.contains("DROP USER"), "{said}");
}
