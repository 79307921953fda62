//! What README shows to a newcomer.

use pen_bench::demo::Demo;

#[test]
fn the_demonstration_names_the_client_of_each_line() {
    let demo = Demo::show().unwrap();
    let clients: Vec<_> = demo.merged.lines().filter_map(|line| line.split(' ').next()).collect();
    for client in ["127.0.9.1", "127.0.9.2", "127.0.9.3", "127.0.9.4"] {
        let count = clients.iter().filter(|&&it| it == client).count();
        assert_eq!(count, 4, "{client} asked four times:\n{}", demo.merged);
    }
    assert_eq!(clients.len(), 16, "{}", demo.merged);
}
