//! What is bent out of shape, by who reads it.

/// Streams of a client; behind 0xFF those of a server. The first two bytes choose how they are played.
pub(super) const HTTP: &[&[u8]] = &[
    b"\x00\x07GET /a?b=c HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n\xffHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"\x01\x03POST /b HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET /c HTTP/1.0\r\n\r\n\xffHTTP/1.1 204 No\r\n\r\nHTTP/1.0 200 OK\r\n\r\nto the end",
    b"\x02\x11PUT /d HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n\xffHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    b"\x04\x02GET /e HTTP/1.1\nConnection: close, x-forwarded-for\nUpgrade: h2c, websocket\n\n\x81\x05hello\xffHTTP/1.1 101 Switching Protocols\r\n\r\n\x81\x05hello",
    b"\x05\x40CONNECT a:1 HTTP/1.1\r\n\r\n\x16\x03\x01\xffHTTP/1.1 200 Fine\r\n\r\n\x16\x03",
    b"\x01\x05HEAD / HTTP/1.1\r\n\r\nHEAD / HTTP/1.1\r\n\r\n\xffHTTP/1.1 304 No\r\nContent-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
    b"\x00\x09EHLO there\r\nGET / HTTP/1.1\r\n\r\n\xff250 well\r\n",
    b"\x00\x09\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03http/1.1\n",
    b"\x01\x08GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"\x01\x08 GET\t/ HTTP/1.1\r\n folded\r\nX-Forwarded-For : 1\r\n\r\n",
];

/// Headers of the PROXY protocol, with what follows them.
pub(super) const PROXY: &[&[u8]] = &[
    b"PROXY TCP4 192.0.2.1 198.51.100.7 12345 443\r\nGET / HTTP/1.1\r\n",
    b"PROXY TCP6 2001:db8::1 ::ffff:1.2.3.4 65535 0\r\n",
    b"PROXY UNKNOWN ffff::f whatever\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x07\x30\x39\x01\xbbrest",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x13\xc0\x00\x02\x01\xc6\x33\x64\x07\x30\x39\x01\xbb\x04\x00\x04\x00\x00\x00\x00",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02\xff\xff\0\0",
    b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00",
];

/// Lines for the control port, which a file may hold as well.
pub(super) const COMMANDS: &[&[u8]] = &[
    b"server 0 address web.example port 80 max 10 hard 20 weight 3 prio 1 acl 2\nroundrobin\nhash\n",
    b"server 3 address [2001:db8::1] port 8080\nserver 4 address /run/app.sock\nemergency 10.0.0.9:80:1:2:3:4\n",
    b"acl 3 permit 10.0.0.0/8\nacl 3 deny 2001:db8::/32\nacl 3 default deny\nclient_acl 3\nno acl 3\n",
    b"acl 1 permit 192.0.2.0 255.255.255.0\nabuse 127.0.0.1:81\ncontrol_acl 1\nno abuse\n",
    b"blacklist 30\ntimeout 500ms\nidle_timeout 2h\nhalf_closed 5m\nfirst_byte 1s\nno tracking\n",
    b"listen 127.0.0.1:80 [::1]:81 /run/pen.sock\nbacklog 5\nworkers 3\nmulti_accept 7\n",
    b"log \"a file with \\\"quotes\\\" and \\x41\"\nlog_format classic\nno log\nlog host:1000\n",
    b"check http HEAD \"/a b\" 200-299\ncheck send \"PING\\r\\n\" expect +PONG\ncheck_rise 3\n",
    b"accept_proxy 10.0.0.0/8 unix ::1\nsend_proxy v2\nsource 127.0.0.2\ntcp_fastclose both\n",
    b"http\nx_forwarded_for keep 10.0.0.0/8\naccess_log /var/log/x\nweb_stats page.html\n",
    b"ssl_certificate a.crt\nssl_key 'b key'\nssl_alpn h2 http/1.1\nssl_minimum 1.3\nssl_crl_file x\nssl_servers verified\n",
    b"drain 0 10s\nremove 1\nclose 7\nrecent 10\nconnection 4\nstatus json\nwrite x\nexit\nhelp\n",
    b"# a comment\n\n  include /again\nmode\nno server 1\nclients_max 1000000\nconn_max 500\n",
];
