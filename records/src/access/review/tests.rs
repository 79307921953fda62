//! Formats as users paste them, and their reviews.

use super::*;

fn review(format: &str) -> Review {
    Review::of(format).unwrap_or_else(|wrong| panic!("{format}: {wrong}"))
}

fn problems(review: &Review) -> Vec<&str> {
    let problems = review.findings.iter().filter(|finding| finding.is_problem);
    problems.map(|finding| &*finding.text).collect()
}

#[test]
fn how_sure_clients_can_be_is_known_from_the_format() {
    for (format, reach) in [
        ("common", AttributionReach::Assigned),
        ("combined", AttributionReach::Assigned),
        ("vhost_combined", AttributionReach::Assigned),
        ("auto", AttributionReach::Depends),
        ("json", AttributionReach::Depends),
        ("json:client=ip,port=from.port", AttributionReach::Exact),
        (r#"%h %t "%r" %>s %b %{remote}p"#, AttributionReach::Exact),
        ("%{c}a:%{remote}p %t", AttributionReach::Exact),
        (r#"%h:%p %t "%r""#, AttributionReach::Assigned),
        ("%h %t %m %U%q %H", AttributionReach::Assigned),
        ("%h %t %m %U", AttributionReach::Nothing),
        ("%h %t %>s", AttributionReach::Nothing),
        (r#"$remote_addr [$time_local] "$request" $status"#, AttributionReach::Assigned),
        (r#"$remote_addr [$time_local] "$request" ${remote_port}"#, AttributionReach::Exact),
        (r#"$realip_remote_addr $msec "$request" $realip_remote_port"#, AttributionReach::Exact),
        (
            r#"log_format j escape=json '{"ip":"$remote_addr","r":"$request","p":$remote_port}';"#,
            AttributionReach::Exact,
        ),
        (
            r#"log_format j escape=json '{"ip":"$remote_addr","r":"$request"}';"#,
            AttributionReach::Assigned,
        ),
    ] {
        assert_eq!(review(format).reach, reach, "{format}");
    }
}

#[test]
fn a_format_with_the_token_that_was_advised_is_exact() {
    for format in [
        "common",
        "combined",
        "vhost_combined",
        r#"LogFormat "%h %l %u %t \"%r\" %>s %b" mine"#,
        r#"log_format main '$remote_addr [$time_local] "$request" '"#,
        r#"log_format main '$remote_addr [$time_local] '
                           '"$request" $status';"#,
        r#"log_format j escape=json '{ "ip": "$remote_addr", "r": "$request" }';"#,
        "%h %t %>s",
    ] {
        let advice = review(format).advice.expect(format);
        let better = advice.format.expect(format);
        assert!(better.contains(advice.token), "{better}");
        assert_eq!(review(&better).reach, AttributionReach::Exact, "{better}");
    }
}

#[test]
fn what_goes_wrong_by_a_format_is_said() {
    for (format, expected) in [
        (
            "%{X-Forwarded-For}i %h %t \"%r\" %{remote}p",
            "%{X-Forwarded-For}i is in front of the client",
        ),
        ("$http_x_forwarded_for $remote_addr $msec \"$request\"", "is in front of the client"),
        ("%h %t \"%r\" %{User-Agent}i", "%{User-Agent}i may hold spaces"),
        ("%h %t %m %U%q %H", "%U is the decoded path"),
        ("%h %t %m %U", "logged without its protocol"),
        ("%h %t %>s", "the request is not logged"),
        ("$remote_addr $msec $request_method $request_uri", "logged without its protocol"),
        ("log_format x escape=none '$remote_addr $msec \"$request\"';", "escape=none"),
        ("log_format x escape=json '$remote_addr $msec \"$request\"';", "escape=json, but"),
        ("$remote_addr \"$request\"", "no time is logged"),
    ] {
        let review = review(format);
        let problems = problems(&review);
        assert!(problems.iter().any(|text| text.contains(expected)), "{format}: {problems:?}");
        assert!(!review.is_good(), "{format}");
    }
}

#[test]
fn what_may_be_of_interest_is_no_problem() {
    for (format, expected) in [
        ("%a %t \"%r\" %{remote}p", "with mod_remoteip, %a and"),
        (
            "$remote_addr $msec \"$request\" $remote_port",
            "log $realip_remote_addr and $realip_remote_port then",
        ),
        ("\"%{X-Forwarded-For}i\" %h %t \"%r\" %{remote}p", "the client field is %h, not"),
        ("%h %t \"%r\" %s %{remote}p", "the balancer sees %>s"),
        ("%h %t \"%r\" %>s %b %{remote}p", "%B logs 0"),
        ("%h %t \"%r\" %{remote}p", "the time is in whole seconds"),
    ] {
        let review = review(format);
        assert!(
            review.findings.iter().any(|note| note.text.contains(expected)),
            "{format}: {review}"
        );
        assert_eq!(problems(&review), [""; 0], "{format}");
        assert!(review.is_good(), "{format}");
    }
    let quiet = "$realip_remote_addr $msec \"$request\" $status $realip_remote_port";
    assert_eq!(review(quiet).findings, []);
    let peer = "%{c}a %{usec}t \"%r\" %>s %B %{remote}p";
    assert_eq!(review(peer).findings, []);
}

#[test]
fn the_server_s_own_port_is_not_taken_for_the_balancer_s() {
    for format in
        ["%h:%p %t \"%r\"", "%h %{local}p %t \"%r\"", "$remote_addr $server_port \"$request\""]
    {
        let said = review(format).to_string();
        assert!(said.contains("is the server's own port, not the balancer's"), "{said}");
    }
}

#[test]
fn a_review_is_short_and_says_what_to_add() {
    insta::assert_snapshot!("combined", review("combined"));
    let json = r#"log_format j escape=json '{"ip":"$remote_addr","t":$msec,"r":"$request"}';"#;
    insta::assert_snapshot!("json", review(json));
    let exact = r#"$remote_addr [$time_local] "$request" $status $body_bytes_sent $remote_port"#;
    insta::assert_snapshot!("exact", review(exact));
}

#[test]
fn no_text_makes_a_review_panic() {
    for format in
        ["", "%", "%{", "$", "${", "%h%", "json:", "é%hé $", "%h %^é", "log_format", "%h ${é}"]
    {
        drop(Review::of(format).map(|review| review.to_string()));
    }
}
