//! The causes, in words. To change what is said, change it here: no Rust is needed for that.
//!
//! `text`, `verdict` and `advice` are sentences with gaps. `{name}` is a figure or a name (`values.rs` lists them),
//! `{?name}` prints nothing and asks whether it is known. `[a|b]` is the first of the parts in which all is known.
//! Anything may be unknown, so gaps are only in brackets; README.md shows what is left without any. `entry.rs` says
//! what the other members mean. A new cause is a variant of `Cause` in `rejection.rs` and an entry here, in the same
//! order.

use super::entry::{
    Counted::{Attempts, Connections, Itself, LateRequests, Packets, Requests},
    Entry,
    Family::{BeforeConnection, OnConnection, Warning},
};
use crate::model::rejection::{
    Cause,
    Evidence::{Inferred, NotSeen, Observed},
};

/// All causes, in the order of [`crate::model::rejection::Cause`].
pub static CAUSES: [Entry; 26] = [
    Entry {
        cause: Cause::NoListener,
        code: "no_listener",
        family: BeforeConnection,
        counted: Attempts,
        evidence: &[Observed],
        title: "no listener",
        text: "Nothing listens[ on {listener}][{?only_v6}: {process} is bound for IPv6 only ({listens})|{?only_v6}: the port \
            is bound for IPv6 only ({listens})|{?loopback}: {process} is bound to loopback only \
            ({listens})|{?loopback}: the port is bound on loopback only ({listens})|: {process} is bound to {listens} \
            only|: the port is bound on {listens} only]; the kernel answers the SYN with a reset.",
        verdict: "found nothing that listens[{?only_v6}: {process} is bound for IPv6 only|{?only_v6}: the port is bound for IPv6 only|: {process} is bound to \
            {listens} only|: the port is bound on {listens} only]; [{?listens}bind it to {any}:{port}|start the application or correct the port of the target group].",
        alb: &["502"],
        advice: "[{?listens}Bind it to {any}:{port}|Start the application, bind it to an address that the load \
            balancer reaches (not 127.0.0.1), or correct the port of the target group]; `ss -ltnp[ 'sport = :{port}']` \
            shows what listens.",
    },
    Entry {
        cause: Cause::AcceptQueueFull,
        code: "accept_queue_full",
        family: BeforeConnection,
        counted: Packets,
        evidence: &[Observed, Inferred],
        title: "accept queue full",
        text: "[{process}|The application][ on :{port}] accepts too slowly: its accept queue is full[ \
            ({queue_length}/{queue_limit})], the kernel [answered the {packet} with {answer}|ignored the {packet}|ignored the \
            SYN][{?inferred} (inferred from its drop in {location} while the queue was full)|{?inferred} (inferred: no answer \
            left while the queue was full)].",
        verdict: "met a full accept queue[ ({queue_length}/{queue_limit})]; [{process}|the application] accepts too \
            slowly: raise workers.",
        alb: &["504"],
        advice: "[{?files_at_limit}The process is at its limit of open files ({open_files}) and accepts nothing: raise \
            LimitNOFILE= in its systemd unit, or `ulimit -n`|Let it accept faster: raise {workers}|Let it accept faster: \
            raise workers or threads]. For bursts lengthen the queue: \
            [{backlog}|the backlog of the application's listen()] and `sysctl -w net.core.somaxconn=4096` (the lesser \
            of the two holds[, now {queue_limit}]), then restart the application.",
    },
    Entry {
        cause: Cause::SynQueueFull,
        code: "syn_queue_full",
        family: BeforeConnection,
        counted: Packets,
        evidence: &[Observed],
        title: "SYN queue full",
        text: "The SYN queue[ of {process}][ on :{port}] is full and SYN cookies are off: the kernel ignored the SYN.",
        verdict: "met a full SYN queue while SYN cookies are off: `sysctl -w net.ipv4.tcp_syncookies=1`.",
        alb: &["504"],
        advice: "`sysctl -w net.ipv4.tcp_syncookies=1`; or more room: `sysctl -w net.ipv4.tcp_max_syn_backlog=4096` \
            and a longer backlog of the listener.",
    },
    Entry {
        cause: Cause::FirewallDrop,
        code: "firewall_drop",
        family: BeforeConnection,
        counted: Packets,
        evidence: &[Observed],
        title: "dropped by the firewall",
        text: "This host's firewall dropped [{?outgoing}its own |the ][{packet}|packet][ to {peer}{?outgoing}| from \
            {peer}][ by the rule {rule}| by one of {candidates}].",
        verdict: "got dropped by this host's firewall[: {rule}|: one of {candidates}]; let them pass.",
        alb: &["504"],
        advice: "[`{legacy_rule}` shows the rule (`iptables` where there is no such program)|`nft -a list chain {chain}` shows \
            the rule|`{legacy_rules}` and `nft -a list ruleset` show the rules|`nft -a list ruleset` and `iptables-save -c` \
            show the rules]; accept [TCP port {port}|the served port] from the load balancer's subnets before the rule that \
            refuses.",
    },
    Entry {
        cause: Cause::FirewallReject,
        code: "firewall_reject",
        family: BeforeConnection,
        counted: Attempts,
        evidence: &[Observed, Inferred],
        title: "rejected by the firewall",
        text: "This host's firewall rejected [{?outgoing}its own |the ][{packet}|packet][ to {peer}{?outgoing}| from \
            {peer}][ with {answer}][ by the rule {rule}| by one of {candidates}][{?inferred} (inferred from the rule: \
            no answer of it was seen)].",
        verdict: "got rejected by this host's firewall[ with {answer}][: {rule}|: one of {candidates}]; let them pass.",
        alb: &["502"],
        advice: "[`{legacy_rule}` shows the rule (`iptables` where there is no such program)|`nft -a list chain {chain}` shows \
            the rule|`{legacy_rules}` and `nft -a list ruleset` show the rules|`nft -a list ruleset` and `iptables-save -c` \
            show the rules]; accept [TCP port {port}|the served port] from the load balancer's subnets before the rule that \
            refuses.",
    },
    Entry {
        cause: Cause::ConntrackFull,
        code: "conntrack_full",
        family: BeforeConnection,
        counted: Packets,
        evidence: &[Inferred],
        title: "connection tracking table full",
        text: "This host's connection tracking table is full[ ({conntrack_entries} of {conntrack_limit})]: netfilter \
            dropped the [{packet}|packet][{?inferred} (inferred from the drop in {location} while the table was \
            full)|{?inferred} (inferred from a drop while the table was full)].",
        verdict: "got dropped because the connection tracking table is full[ ({conntrack_entries} of \
            {conntrack_limit})]: raise net.netfilter.nf_conntrack_max.",
        alb: &["504"],
        advice: "`sysctl -w net.netfilter.nf_conntrack_max=[{conntrack_double}|524288]` on the host itself; `conntrack \
            -S` counts the drops. Or track less: a `notrack` rule[ for TCP port {port}].",
    },
    Entry {
        cause: Cause::ReversePath,
        code: "reverse_path",
        family: BeforeConnection,
        counted: Packets,
        evidence: &[Observed],
        title: "reverse path filter",
        text: "The reverse path filter dropped the [{packet}|packet][ from {peer}]: the answer would not leave through \
            the interface by which it came.",
        verdict: "got dropped by the reverse path filter: set rp_filter to 2, or route the answers back the same way.",
        alb: &["504"],
        advice: "`sysctl -w net.ipv4.conf.all.rp_filter=2` (loose), or a routing table for each interface; `ip route \
            get [{peer_ip} from {address}|PEER from ADDRESS]` shows the way back.",
    },
    Entry {
        cause: Cause::NoRouteBack,
        code: "no_route_back",
        family: BeforeConnection,
        counted: Packets,
        evidence: &[Observed, Inferred],
        title: "no route back",
        text: "This host has no route back to [{peer_ip}|the peer][ ({route})]: [{?outgoing}it could not send its \
            {packet}|it cannot answer the {packet}|it cannot answer][{?inferred} (inferred: no SYN-ACK left, and the \
            kernel says so when it is asked)].",
        verdict: "got no answer: this host has no route back[ ({route})].",
        alb: &["504"],
        advice: "Add the route: `ip route add [{network}|NETWORK] via GATEWAY`; `ip route get [{peer_ip} from \
            {address}|PEER from ADDRESS]` shows what the kernel finds.",
    },
    Entry {
        cause: Cause::SynackUnanswered,
        code: "synack_unanswered",
        family: BeforeConnection,
        counted: Attempts,
        evidence: &[Observed],
        title: "SYN-ACK unanswered",
        text: "The SYN was answered[ by {listener}], the SYN-ACK sent three times: no ACK came[ from {peer}].",
        verdict: "got a SYN-ACK, but no ACK came: look at network ACLs and routes on the way to the peer.",
        alb: &["504"],
        advice: "The way to the peer: the subnet's network ACL must let TCP out to the ports 1024-65535, and answers \
            must leave through the interface by which the SYN came: `ip route get [{peer_ip} from {address}|PEER from \
            ADDRESS]`.",
    },
    Entry {
        cause: Cause::MalformedPacket,
        code: "malformed_packet",
        family: BeforeConnection,
        counted: Packets,
        evidence: &[Observed],
        title: "malformed packet",
        text: "The kernel dropped a damaged [{packet}|packet][ to {peer}{?outgoing}| from {peer}]: \
            [{reason_words}|wrong checksum, header or flags][ ({reason} in {location})| ({reason})].",
        verdict: "got dropped as damaged[: {reason_words}][ ({reason})]; capture them.",
        alb: &["504"],
        advice: "Capture it: `tcpdump -nvvi any[ tcp port {port}]`. If the packets of one interface only are damaged, \
            try without its offloads: `ethtool -K INTERFACE rx off gro off`.",
    },
    Entry {
        cause: Cause::BpfDrop,
        code: "bpf_drop",
        family: BeforeConnection,
        counted: Packets,
        evidence: &[Observed],
        title: "dropped by a program",
        text: "The [{packet}|packet][ to {peer}{?outgoing}| from {peer}] was dropped by [{reason_words}|an XDP, tc or \
            BPF program of this host][ ({reason} in {location})| ({reason})].",
        verdict: "got dropped by [{reason_words}|an XDP, tc or BPF program] of this host; let them pass.",
        alb: &["504"],
        advice: "`bpftool net list` shows XDP and tc programs, `tc filter show dev INTERFACE ingress` filters, \
            `bpftool cgroup tree` the programs of control groups; detach the one that drops, or let it pass[ TCP port \
            {port}].",
    },
    Entry {
        cause: Cause::NothingArrived,
        code: "nothing_arrived",
        family: BeforeConnection,
        counted: Itself,
        evidence: &[NotSeen],
        title: "nothing arrived",
        text: "Nothing arrived here[ for {listener}| for :{port}][ in {waited}]: no SYN, no request, no connection[. Before \
            anything is seen, {xdp} may have dropped it].",
        verdict: "Nothing arrived here[ for {listener}| for :{port}][ in {waited}]: [see first whether {xdp} drops it, then \
            look|look] upstream, at security group, network ACL, route and target group.",
        alb: &["504"],
        advice: "[`bpftool net list` shows {xdp}: take it off for a moment (`ip link set dev INTERFACE xdp off`), or count what it \
            drops. Otherwise look|Look] upstream of this host: the instance's security group (inbound[ TCP {port}] from that of the load \
            balancer), the network ACLs and routes of both subnets, address and port in the target group.",
    },
    Entry {
        cause: Cause::Forwarded,
        code: "forwarded",
        family: BeforeConnection,
        counted: Itself,
        evidence: &[NotSeen],
        title: "forwarded",
        text: "Packets came[ for {listener}| for :{port}] and were [forwarded to {forwarded_to}|not for a socket that this host was \
            seen to have]: what became of them there is not seen here[; the SYN came again, so nothing had answered it \
            ({retransmits})].",
        verdict: "Packets came[ for {listener}| for :{port}] and were [forwarded to {forwarded_to}|not for a socket that this host \
            was seen to have]: look there[; the SYN came again, so nothing had answered it ({retransmits})].",
        alb: &["504"],
        advice: "Watch where they go: a port mapping, a container or a NodePort of Kubernetes. [`conntrack -L -p tcp --orig-port-dst \
            {port}`|`conntrack -L -p tcp`] lists the mapped connections; run tracer[ where {forwarded_to} listens| there].",
    },
    Entry {
        cause: Cause::KeepaliveRace,
        code: "keepalive_race",
        family: OnConnection,
        counted: LateRequests,
        evidence: &[Observed, Inferred],
        title: "keep-alive race",
        text: "[{ended_by}|This host] closed the connection[ after {idle} without a request]; the next request met the \
            close[ {late} later|{?never_read}: it had come and was not read][ ({why})][{?inferred}{?half_closed} (inferred: \
            it had closed its half only, and outside HTTP a peer may go on then)|{?inferred} (inferred: the data is \
            encrypted and short, so it may also be control data that needs no answer)].",
        verdict: "met a connection that [{ended_by}|this host] had just closed[ after {idle} without a \
            request][{?stops} ({why})|{?keep_alive_time} ({why})]; [{?stops}let the load balancer leave before it \
            stops|{?keep_alive_time}raise its keep-alive above the load balancer's {idle_timeout}|{?no_keep_alive}see whether it \
            stopped then, or limits connections or requests|see whether it stopped then, or closes idle connections by itself].",
        alb: &["502"],
        advice: "[{?worker_ended}Before a worker ends, the load balancer has to know: answer its last requests with \
            `Connection: close`, or deregister the target, wait for the deregistration delay, and reload then|{?died}Find out why the \
            process ended: {kernel_log}, and the application's log at that time; if it was a deploy, deregister the target first and wait for the deregistration delay|{?stops}Before \
            the server stops, deregister the target and wait for the deregistration delay (Kubernetes: a `preStop` \
            sleep), or answer with `Connection: close` for that long (lame duck)|{?keep_alive_time}Set {keep_alive} \
            above the load balancer's idle timeout ({idle_timeout}): {longer}|{?keep_alive_time}Set {keep_alive} above the load \
            balancer's idle timeout ({idle_timeout})|{?keep_alive_time}Set the idle timeout of the \
            server above that of the load balancer ({idle_timeout})|{?no_keep_alive}If the server stopped or reloaded \
            then, deregister the target first and wait for the deregistration delay; if it limits the requests or the \
            age of a connection, the last response has to say `Connection: close`|{?beyond_timeout}If the server stopped or reloaded \
            then, deregister the target first and wait for the deregistration delay; if the load balancer keeps connections for longer \
            than {idle_timeout}, let the server keep them for longer still, and run tracer with --idle-timeout|If the server stopped or \
            reloaded then, deregister the target first and wait for the deregistration delay; if it closes unused connections by \
            itself, let it keep them for longer than the load balancer's idle timeout][{?worker_ended}. \
            {recycle}|{?stops}|{?keep_alive_time}. {apply}|{?keep_alive_time}|{?no_keep_alive}|{?beyond_timeout}| \
            ({idle_timeout})].",
    },
    Entry {
        cause: Cause::ClosedBeforeResponse,
        code: "closed_before_response",
        family: OnConnection,
        counted: Requests,
        evidence: &[Observed],
        title: "closed before the response",
        text: "[{ended_by}|The application] closed the connection[ {waited} after the request came,] without a \
            response[{?stops} ({why})|; nothing had come or gone for {silent}: {?waits_for_body}it answers every whole request, so the \
            sender had stalled in its body|; nothing had come or gone for {silent}: it gave up, or it waited for the \
            rest of the request].",
        verdict: "got no response: [{ended_by}|the application] closed the connection[ after {waited}]; \
            [{?stops}let it finish its requests before it stops|{?waits_for_body}look at why the request stalled in its \
            body|{?silent}look at its log, and at whether the request came whole|look at its log].",
        alb: &["502"],
        advice: "[{?stops}Let the server finish its requests before it ends: deregister the target, wait for the \
            deregistration delay (Kubernetes: a `preStop` sleep), and give it time to stop|{?waits_for_body}The request \
            was incomplete: look at the client or the load balancer's side; {body} \
            limits how long the server waits for the rest|{?died}Read the kernel's log, {kernel_log}, and the \
            application's log at that time|Read the application's log at that time: a crash, a worker timeout, a restart, a request whose body did not come whole][{?stops}|{?waits_for_body}|{?died}|. {kernel_log} \
            tells if the kernel ended it].",
    },
    Entry {
        cause: Cause::ResetBeforeResponse,
        code: "reset_before_response",
        family: OnConnection,
        counted: Requests,
        evidence: &[Observed],
        title: "reset before the response",
        text: "[{?closed_unread}{ended_by} accepted the connection and closed it without reading anything; the request \
            came {late} later and was reset|{?closed_unread}{ended_by} accepted the connection and closed it {waited} \
            after the request came, without reading it|{?closed_unread}The application accepted the connection and \
            closed it without reading the request|{ended_by} reset the connection {waited} after the request came, \
            without a response|{ended_by} reset the connection without a response|This host reset the connection \
            without a response][{?never_accepted}: it had never been accepted|{?stops} ({why})|{?closed_unread} (open files: \
            {open_files}; {threads})|{?closed_unread} (open files: {open_files})|{?closed_unread}|: {unread} of the request had not \
            been read].",
        verdict: "got a reset for a response[ from {ended_by}][ after {waited}][{?closed_unread}, accepted and closed \
            unread|, {unread} of the request unread]; [{?stops}let the load balancer leave before it stops|{?files_at_limit}raise its limit of open files \
            ({open_files})|{?closed_unread}look for a limit of the application|look at the application's log].",
        alb: &["502"],
        advice: "[{?never_accepted}The listener closed with connections in its queue: let it accept and serve them \
            before it ends|{?stops}Before the server stops, deregister the target and wait for the deregistration delay \
            (Kubernetes: a `preStop` sleep)|{?files_at_limit}The process is at its limit of open files ({open_files}): raise LimitNOFILE= \
            in {unit}, and restart it|{?files_at_limit}The process is at its limit of open files ({open_files}): recreate container \
            {container} with a higher `--ulimit nofile=`|{?files_at_limit}The process is at its limit of open files ({open_files}): \
            raise LimitNOFILE= in its systemd unit, or `ulimit -n`, and restart it|{?closed_unread}A limit of the server: {limits}|{?closed_unread}A \
            limit of the application: connections or workers at once, or open files ({count_files})|{?closed_unread}A limit of the application: connections or workers at once, \
            or open files|{?never_read}Nobody read it for {waited}: more workers, or fewer connections for each|{?unread}It \
            closed without reading the whole request: a limit of size, a crash or a \
            worker timeout|Look for a crash, a worker timeout, a restart, SO_LINGER 0]; read the \
            application's log at that time.",
    },
    Entry {
        cause: Cause::ResetMidResponse,
        code: "reset_mid_response",
        family: OnConnection,
        counted: Requests,
        evidence: &[Observed],
        title: "reset in mid-response",
        text: "[{ended_by}|This host] reset the connection[ {waited} after the request came,] in the middle of the \
            response[ ({bytes_out} were written)].",
        verdict: "got only part of the response: [{ended_by}|this host] reset the connection[ after {waited}]; look at \
            the application's log.",
        alb: &["502"],
        advice: "Look for a crash, a worker timeout, a restart amid responses, SO_LINGER 0; read \
            the application's log at that time.",
    },
    Entry {
        cause: Cause::ResetDuringUpload,
        code: "reset_during_upload",
        family: OnConnection,
        counted: Requests,
        evidence: &[Observed, Inferred],
        title: "reset during the upload",
        text: "[{ended_by}|This host] answered before the whole request had come, and closed the connection: the rest of \
            the upload met a reset[ ({unread} of it unread)][{?inferred} (inferred: it came before the response \
            was whole, or right behind it; it may also have been the next request)].",
        verdict: "got an early response and then a reset into their upload[ from {ended_by}]: the load balancer may \
            answer 502 instead; let the server read the rest before it closes.",
        alb: &["502"],
        advice: "Find out why it answers early (a limit of size, a missing authorization, a redirect), and let the server \
            read what still comes before it closes: [{lingering}|nginx lingering_close, Apache and haproxy do; node, \
            Go and most frameworks have to read the rest of the body themselves].",
    },
    Entry {
        cause: Cause::PeerGaveUp,
        code: "peer_gave_up",
        family: OnConnection,
        counted: Requests,
        evidence: &[Observed, Inferred],
        title: "peer gave up",
        text: "[{peer}|The peer] gave up[ with a {packet}][ {waited} after its request came,] [{?unanswered}before any \
            response|{?ended_unanswered}before any response|before the response was complete ({bytes_out} had been written)|before the response was \
            complete][{?inferred} (inferred from its close without a response: a message may need none)].",
        verdict: "ended early: the peer gave up[ after {waited}]; [{?timed_out}answer within its idle timeout \
            ({idle_timeout})|look at where such requests spend their time].",
        alb: &["460", "504"],
        advice: "[{?timed_out}Answer within the load balancer's idle timeout ({idle_timeout}), or raise it \
            (idle_timeout.timeout_seconds)|Answer sooner: the peer did not wait]; `tracer watch` shows the stage that \
            takes the time.",
    },
    Entry {
        cause: Cause::ApplicationNotReading,
        code: "application_not_reading",
        family: OnConnection,
        counted: Requests,
        evidence: &[Observed],
        title: "application does not read",
        text: "[{process}|The application][ on :{port}] did not read: for [{zero_window}|a second or more] this host \
            had no room for the rest of the request (zero window).",
        verdict: "had to wait[ {zero_window}] until [{process}|the application] read on (zero window): raise workers.",
        alb: &["504"],
        advice: "Let it read sooner: raise [{workers}|workers or threads]; read the whole body before working on it.[ \
            `cat /proc/{pid}/stack` shows where it is.]",
    },
    Entry {
        cause: Cause::NoResponse,
        code: "no_response",
        family: OnConnection,
        counted: Requests,
        evidence: &[Observed, Inferred],
        title: "no response",
        text: "[{?never_accepted}{process} has not accepted the connection of a request|{?never_accepted}The connection of a \
            request waits to be accepted|{?never_read}{process} has not read \
            a request|{?never_read}The application has not read a request|{process} has read a request but not \
            answered it|A request has not been answered][ for {waited}, longer than the load balancer's idle timeout \
            ({idle_timeout})| for longer than the load balancer's idle timeout][{?reads_unseen}; whether and by whom it was \
            read is not told apart, because Multipath TCP, kernel TLS or a sockmap reads for the application][{?inferred} \
            (inferred: it may also be a message that needs no answer)|{?never_accepted} (in the accept queue: {queue_length} of \
            {queue_limit}; the process has {threads})|{?never_accepted} (in the accept queue: {queue_length} of \
            {queue_limit})|{?never_read} (the process has {threads})].",
        verdict: "waited[ {waited}] for a response[{?never_accepted}, not even accepted|{?never_read}, not even read|, \
            read by {process}]; [{?never_read}raise workers|look at what it waits for].",
        alb: &["504"],
        advice: "[{?files_at_limit}The process is at its limit of open files ({open_files}) and accepts nothing: raise \
            LimitNOFILE= in {unit}, and restart it|{?files_at_limit}The process is at its limit of open files ({open_files}) and \
            accepts nothing: recreate container {container} with a higher `--ulimit nofile=`|{?files_at_limit}The process is at its \
            limit of open files ({open_files}) and accepts nothing: raise LimitNOFILE= in its systemd unit, or \
            `ulimit -n`, and restart it|{?never_read}Let it accept and read sooner: raise {workers}|{?never_read}Let it accept and \
            read sooner: raise workers or threads|See what it waits for: `cat /proc/{pid}/stack`, `ss -tnp`, the log of the database|See what it waits for: `ss -tnp`, the log of the \
            database]; or raise the load balancer's idle timeout (idle_timeout.timeout_seconds) above the slowest \
            request.",
    },
    Entry {
        cause: Cause::ResponseNotAcknowledged,
        code: "response_not_acknowledged",
        family: OnConnection,
        counted: Requests,
        evidence: &[Observed, Inferred],
        title: "response not acknowledged",
        text: "[{peer}|The peer] did not acknowledge the response[ of {bytes_out}][ for {waited}][{?inferred} \
            (inferred from {retransmits} of packets with {resent_bytes} bytes without an acknowledgement)|{?inferred} \
            (inferred from {retransmits} without an acknowledgement)].",
        verdict: "got a response that nobody acknowledged[ for {waited}]: look at the network to the peer[, which may lose \
            packets as large as those that were sent again ({resent_bytes} bytes): its MTU].",
        alb: &["504"],
        advice: "[The way to the peer may lose large packets (a path MTU black hole): if `ping -M do -s {resent_probe} {peer_ip}` \
            gets no answer and a plain `ping` does, let ICMP \"fragmentation needed\" pass, lower the MTU of the interface, or \
            set `sysctl -w net.ipv4.tcp_mtu_probing=1`. Otherwise it loses packets of any size, or the peer is gone|The way to \
            the peer loses packets, or the peer is gone]: `nstat -az TcpRetransSegs TcpExtTCPTimeouts`, \
            `ethtool -S INTERFACE` for allowances exceeded, and the MTU: `tracepath [{peer_ip}|PEER]`.",
    },
    Entry {
        cause: Cause::PacketDropped,
        code: "packet_dropped",
        family: OnConnection,
        counted: Packets,
        evidence: &[Observed, Inferred],
        title: "packet dropped",
        text: "The kernel dropped [{?outgoing}its own |the ][{packet}|packet][ to {peer}{?outgoing}| from {peer}][: \
            {reason_words}| for another reason][{?inferred} (inferred from the drop in {location}; the kernel gives no \
            reason)|{?inferred} (inferred: the kernel gives no reason)| ({reason} in {location})| ({reason})].",
        verdict: "got dropped by the kernel[: {reason_words}][ ({reason})].",
        alb: &["504"],
        advice: "[{reason_advice}|The reason names what to look at; `nstat -az` counts drops by kind.]",
    },
    Entry {
        cause: Cause::KeepaliveTooShort,
        code: "keepalive_too_short",
        family: Warning,
        counted: Connections,
        evidence: &[Inferred],
        title: "keep-alive too short",
        text: "[{ended_by}|The application] closes idle connections[ after {idle},] sooner than the load balancer[ \
            ({idle_timeout})]: a request that comes just then is lost[{?inferred} (inferred: {same_idle} connections \
            closed after the same idle time, and none was seen to be idle for longer)].",
        verdict: "got closed by [{ended_by}|the application][ after {idle} without a request], sooner than the load \
            balancer would[ ({idle_timeout})]: raise its keep-alive.",
        alb: &[],
        advice: "[Set {keep_alive} above the load balancer's idle timeout ({idle_timeout}): {longer}|Set {keep_alive} above the \
            load balancer's idle timeout ({idle_timeout})|Set the idle timeout of the server above that of the load \
            balancer][. {apply}].",
    },
    Entry {
        cause: Cause::AcceptQueueFilling,
        code: "accept_queue_filling",
        family: Warning,
        counted: Itself,
        evidence: &[Observed],
        title: "accept queue filling",
        text: "The accept queue[ of {process}][ on :{port}] was half full or more[ ({queue_length}/{queue_limit})]: \
            beyond its limit the kernel ignores SYNs.",
        verdict: "The accept queue[ of {process}][ on :{port}] was half full or more[ ({queue_length}/{queue_limit})]: \
            raise workers before it is full.",
        alb: &[],
        advice: "Let it accept faster: raise [{workers}|workers or threads]. For bursts lengthen the queue: \
            [{backlog}|the backlog of the application's listen()] and `sysctl -w net.core.somaxconn=4096`.",
    },
    Entry {
        cause: Cause::ProcessDied,
        code: "process_died",
        family: Warning,
        counted: Connections,
        evidence: &[Inferred],
        title: "process died",
        text: "[{ended_by}|The process] ended[ {idle} after the last byte of a response]: the response may not have been \
            whole[; {together} connections ended with it][{?inferred} (inferred: all that was written had arrived, and \
            whether more was to come cannot be seen)].",
        verdict: "lost [{ended_by}|its process][ {idle} after the last byte of a response], which may not have been whole: \
            look at why it ended.",
        alb: &[],
        advice: "[{?out_of_memory}Memory was short: {memory_log} shows how much it had; \
            raise MemoryMax= or the container's limit, or let it use less|{kernel_log} and the application's log at \
            that time say why it ended; if it was a deploy, let it finish what is under way first|The kernel's log and \
            the application's log at that time say why it ended; if it was a deploy, let it finish what is under way \
            first].",
    },
];

// `entry` finds an entry by the number of its cause.
const _: () = {
    let mut index = 0;
    while index < CAUSES.len() {
        assert!(CAUSES[index].cause as usize == index, "an entry is out of order");
        index += 1;
    }
};
