// A notice board on Express: sessions, uploads, downloads, events, sockets. BEHIND_PROXY=1 stands for the two settings
// that Express needs behind the gateway; nothing else differs.
import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

// The packages are installed elsewhere: NODE_MODULES_AT/package.json.
const require = createRequire(join(process.env.NODE_MODULES_AT, "package.json"));
const busboy = require("busboy");
const compression = require("compression");
const cookieParser = require("cookie-parser");
const express = require("express");
const session = require("express-session");
const { Server } = require("socket.io");
const { WebSocketServer } = require("ws");

const app = express();
if (process.env.BEHIND_PROXY === "1") app.set("trust proxy", "loopback"); // req.ip, req.protocol, secure cookies
app.disable("x-powered-by");
app.use(compression());
app.use(cookieParser("a secret"));
app.use(
  session({
    secret: "a secret",
    resave: false,
    saveUninitialized: false,
    cookie: { secure: "auto", sameSite: "lax" },
  }),
);
app.use(express.static(join(dirname(fileURLToPath(import.meta.url)), "public"), { maxAge: "1h", lastModified: false }));

// --- what Express makes of a request
app.get("/seen", (req, res) => {
  res.json({ protocol: req.protocol, secure: req.secure, host: req.host, ip: req.ip, ips: req.ips, query: req.query });
});

// --- sessions and cookies
app.post("/sign-in", express.urlencoded(), (req, res) => {
  req.session.user = req.body.user;
  res.cookie("theme", "dark", { maxAge: 86_400_000 });
  res.cookie("signed", "yes", { signed: true, httpOnly: true, sameSite: "strict" });
  res.redirect(303, "/account");
});
app.get("/account", (req, res) => {
  if (!req.session.user) return res.redirect("/?sign-in=1");
  req.session.visits = (req.session.visits ?? 0) + 1;
  res.json({ user: req.session.user, visits: req.session.visits, theme: req.cookies.theme, signed: req.signedCookies.signed });
});
app.post("/sign-out", (req, res) => {
  req.session.destroy(() => res.clearCookie("connect.sid").clearCookie("theme").clearCookie("signed").sendStatus(204));
});

// --- a resource with every method
const notices = new Map();
app.use("/notices", express.json({ limit: "1mb" }));
app.route("/notices").get((req, res) => res.json([...notices.values()])).post((req, res) => {
  const notice = { id: String(notices.size + 1), ...req.body };
  notices.set(notice.id, notice);
  res.status(201).location(`/notices/${notice.id}`).json(notice);
});
app.route("/notices/:id").all((req, res, next) => (notices.has(req.params.id) || req.method === "PUT" ? next() : res.sendStatus(404)))
  .get((req, res) => res.json(notices.get(req.params.id)))
  .put((req, res) => (notices.set(req.params.id, { ...req.body, id: req.params.id }), res.json(notices.get(req.params.id))))
  .patch((req, res) => res.json(Object.assign(notices.get(req.params.id), req.body)))
  .delete((req, res) => (notices.delete(req.params.id), res.sendStatus(204)));
app.get("/by-name/:name", (req, res) => res.json(req.params));

// --- large things, never held as a whole
app.post("/upload", (req, res) => {
  const found = [];
  const form = busboy({ headers: req.headers });
  form.on("field", (name, value) => found.push({ name, value }));
  form.on("file", (name, file, info) => {
    const hash = createHash("sha256");
    let bytes = 0;
    file.on("data", (piece) => (hash.update(piece), (bytes += piece.length)));
    file.on("end", () => found.push({ name, ...info, bytes, sha256: hash.digest("hex") }));
  });
  form.on("close", () => res.json(found));
  req.pipe(form);
});
app.put("/raw", (req, res) => {
  const hash = createHash("sha256");
  let bytes = 0;
  req.on("data", (piece) => (hash.update(piece), (bytes += piece.length)));
  req.on("end", () => res.json({ bytes, length: req.headers["content-length"] ?? "chunked", sha256: hash.digest("hex") }));
});
const piece = Buffer.alloc(64 << 10, "0123456789abcdef");
app.get("/download/:mebibytes", (req, res) => {
  const total = Number(req.params.mebibytes) << 20;
  res.type("application/octet-stream").set("cache-control", "no-transform");
  if (req.query.length) res.set("content-length", String(total));
  let sent = 0;
  const more = () => {
    while (sent < total) {
      sent += piece.length;
      if (!res.write(piece)) return res.once("drain", more);
    }
    res.end();
  };
  more();
});
app.get("/text", (req, res) => res.type("text").send("all work and no play\n".repeat(5000)));
app.get("/early", (req, res) => {
  res.writeEarlyHints({ link: "</style.css>; rel=preload; as=style" });
  res.type("text").send("late\n");
});
app.get("/trailers", (req, res) => {
  res.set("trailer", "x-checksum").type("text");
  res.write("body\n");
  res.addTrailers({ "x-checksum": "abc" });
  res.end();
});
app.get("/fails", () => {
  throw new Error("on purpose");
});

// --- events: six, a while apart, each with the time of its sending
app.get("/events", (req, res) => {
  res.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
  let next = Number(req.headers["last-event-id"] ?? 0) + 1;
  const last = next + 5;
  const timer = setInterval(() => {
    res.write(`id: ${next}\nevent: tick\ndata: ${JSON.stringify({ next, at: Date.now() })}\n\n`);
    res.flush();
    if (next++ === last) (clearInterval(timer), res.end("event: done\ndata: {}\n\n"));
  }, 100);
  req.on("close", () => clearInterval(timer));
});
// --- a long poll: answers when somebody posts
const waiting = new Set();
app.get("/poll", (req, res) => waiting.add(res));
app.post("/poll", (req, res) => {
  for (const other of waiting) other.json({ woken: true });
  res.json({ waiting: waiting.size });
  waiting.clear();
});

app.use((error, req, res, next) => res.status(error.status ?? 500).json({ error: error.message }));

const server = createServer(app);

// --- WebSockets by ws: an echo with subprotocol and compression
const echo = new WebSocketServer({
  noServer: true,
  perMessageDeflate: { threshold: 0 },
  handleProtocols: (offered) => (offered.has("notices.v2") ? "notices.v2" : false),
});
echo.on("connection", (socket, req) => {
  socket.send(JSON.stringify({ hello: req.url, cookies: req.headers.cookie ? "yes" : "no" }));
  socket.on("message", (data, binary) => {
    const text = data.toString();
    if (text.startsWith("burst ")) for (let i = 0; i < Number(text.slice(6)); i++) socket.send(`message ${i}`);
    else if (text === "close") socket.close(4001, "as you wish");
    else socket.send(data, { binary });
  });
});
server.on("upgrade", (req, socket, head) => {
  if (!req.url.startsWith("/echo")) return;
  echo.handleUpgrade(req, socket, head, (client) => echo.emit("connection", client, req));
});

// --- socket.io, with its own fallback to long polling
const io = new Server(server, { destroyUpgrade: false, maxHttpBufferSize: 4 << 20 });
io.on("connection", (socket) => {
  socket.emit("hello", socket.conn.transport.name);
  socket.on("post", (text, done) => (io.emit("posted", text), done({ length: text.length })));
  socket.on("bytes", (bytes, done) => done(Buffer.from(bytes).reverse()));
});

server.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
