// The lab's server for node.js: address, port, keepAliveTimeout in milliseconds; then `manager`, or nothing.
const [address, port, idle, role] = process.argv.slice(2);
const cluster = require("cluster");

if (role === "manager" && cluster.isPrimary) {
  let stopping = false;
  let deploying = false;
  // Each worker accepts by itself. Else the manager accepts and passes the connections on, and node loses those that are on
  // their way to a worker which ends: they stay open and nobody serves them.
  cluster.schedulingPolicy = cluster.SCHED_NONE;
  for (let count = 0; count < 2; count++) cluster.fork();
  // One after the other: a new worker listens before an old one is told to end.
  process.on("SIGUSR2", async () => {
    if (deploying) return;
    deploying = true;
    for (const old of Object.values(cluster.workers)) {
      await new Promise((listens) => cluster.fork().once("listening", listens));
      old.process.kill("SIGTERM");
    }
    deploying = false;
  });
  process.on("SIGTERM", () => {
    stopping = true;
    for (const worker of Object.values(cluster.workers)) worker.process.kill("SIGTERM");
  });
  cluster.on("exit", () => {
    if (stopping && Object.keys(cluster.workers).length === 0) process.exit(0);
  });
} else {
  const server = require("http").createServer((request, response) => {
    if (request.url === "/early") {
      // Answers as soon as it has the head, and ends the connection under the upload.
      response.writeHead(401, { "Content-Length": 3 });
      return response.end("who", () => request.socket.destroy());
    }
    if (request.url === "/destroy") return request.socket.destroy();
    if (request.url === "/late") return setTimeout(() => response.end("ok"), 1000);
    if (request.url.startsWith("/events?")) {
      // Server-sent events, twice a second.
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      let left = Number(request.url.split("?")[1]);
      const timer = setInterval(() => {
        if (left-- > 0) return response.write(`data: ${left}\n\n`);
        clearInterval(timer);
        response.end();
      }, 500);
      return response.on("close", () => clearInterval(timer));
    }
    request.resume();
    request.on("end", () => response.end("ok"));
  });
  server.keepAliveTimeout = Number(idle);
  // A WebSocket that prints what comes and answers nothing, in the words of RFC 6455.
  server.on("upgrade", (request, socket) => {
    const key = request.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    const accept = require("crypto").createHash("sha1").update(key).digest("base64");
    socket.write(
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
        `Sec-WebSocket-Accept: ${accept}\r\n\r\n`
    );
    socket.on("data", (data) => console.log(`frame of ${data.length}`));
    socket.on("end", () => socket.end());
    socket.on("error", () => {});
  });
  server.listen(Number(port), address);
  process.on("SIGTERM", () => server.close(() => process.exit(0)));
}
