//! The server of the JDK, from a single source file.

use std::path::Path;

use anyhow::Result;

use super::{Launch, Options, program, write};
use crate::process::Signal;
use crate::topology::Lab;

const PROGRAM: &str = r#"
import com.sun.net.httpserver.HttpServer;
import java.net.InetSocketAddress;
import java.util.concurrent.Executors;

public class Server {
    public static void main(String[] arguments) throws Exception {
        var address = new InetSocketAddress(arguments[0], Integer.parseInt(arguments[1]));
        var server = HttpServer.create(address, 128);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", exchange -> {
            exchange.getRequestBody().readAllBytes();
            if (exchange.getRequestURI().getPath().equals("/late")) {
                try { Thread.sleep(1000); } catch (InterruptedException interrupted) { return; }
            }
            exchange.sendResponseHeaders(200, 2);
            exchange.getResponseBody().write("ok".getBytes());
            exchange.close();
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> server.stop(1)));
        server.start();
    }
}
"#;

pub(super) fn launch(lab: &Lab, directory: &Path, options: &Options) -> Result<Launch> {
    let source = directory.join("Server.java");
    write(&source, PROGRAM)?;
    let mut command = lab.target.command(&program(&["java"])?)?;
    command.arg(format!("-Dsun.net.httpserver.idleInterval={}", options.keep_alive_s()));
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx64m"]).args(&options.arguments).arg(&source);
    command.args([options.address.ip().to_string(), options.address.port().to_string()]);
    Ok(Launch::new(command, Signal::TERM))
}
