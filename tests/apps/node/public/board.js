// What the driver asks of the page: each function resolves with what the page saw.
const say = (text) => {
  const line = document.createElement("li");
  line.textContent = text;
  document.getElementById("log").append(line);
};

window.board = {
  // Events as they come; `streamed` says that the first was here before the last was sent.
  events: () =>
    new Promise((resolve, reject) => {
      const seen = [];
      let first;
      const source = new EventSource("/events");
      source.addEventListener("tick", (event) => {
        const { next, at } = JSON.parse(event.data);
        first ??= Date.now();
        seen.push({ id: event.lastEventId, next });
        say(`tick ${next}`);
        source.sent = at;
      });
      source.addEventListener("done", () => {
        source.close();
        resolve({ seen, streamed: first < source.sent });
      });
      source.onerror = () => reject("the stream broke");
    }),

  // A conversation over a WebSocket.
  echo: (script) =>
    new Promise((resolve) => {
      const socket = new WebSocket(`${location.origin.replace("http", "ws")}/echo?x=1`, ["other", "notices.v2"]);
      socket.binaryType = "arraybuffer";
      const seen = [];
      const size = (data) => (typeof data === "string" ? data.length : `${data.byteLength} bytes`);
      socket.onopen = () => {
        for (const line of script) socket.send(typeof line === "number" ? new Uint8Array(line).fill(7) : line);
      };
      socket.onmessage = ({ data }) => {
        seen.push(typeof data === "string" && data.length < 200 ? data : size(data));
      };
      socket.onclose = ({ code, reason, wasClean }) =>
        resolve({ seen, code, reason, wasClean, protocol: socket.protocol, extensions: socket.extensions });
    }),

  // Two of socket.io's clients, one of which hears what the other says.
  chat: (transports, forced) =>
    new Promise((resolve, reject) => {
      const options = { transports, forceNew: true, reconnection: false, timeout: 20000 };
      const [one, two] = [io(options), io(options)];
      const heard = [];
      const fail = (error) => reject(`socket.io: ${error.message ?? error}`);
      one.on("connect_error", fail);
      two.on("connect_error", fail);
      two.on("posted", (text) => heard.push(text.length > 100 ? text.length : text));
      const settled = (client) =>
        new Promise((done) => client.on("hello", () => {
          if (forced || client.io.engine.transport.name === "websocket") return done();
          client.io.engine.once("upgrade", done);
        }));
      Promise.all([settled(one), settled(two)]).then(async () => {
        const answers = [];
        for (const text of ["hello", "x".repeat(300000), "good bye"]) answers.push(await one.emitWithAck("post", text));
        const bytes = await one.emitWithAck("bytes", new Uint8Array([1, 2, 3, 250]).buffer);
        const until = () => (heard.length === 3 ? finish() : setTimeout(until, 10));
        const finish = () => {
          const transport = one.io.engine.transport.name;
          // Who began with polling came to a WebSocket by an upgrade, before or after "hello".
          const upgraded = transports[0] === "polling" && transport === "websocket";
          one.close();
          two.close();
          say(`chat by ${transport}`);
          resolve({ transport, upgraded, answers, heard, bytes: [...new Uint8Array(bytes)] });
        };
        until();
      }).catch(fail);
    }),

  // A form with files, as a page sends it.
  upload: async (bytes) => {
    const form = new FormData();
    form.append("title", "größe");
    form.append("file", new Blob([new Uint8Array(bytes).fill(42)], { type: "image/png" }), "bild ä.png");
    const answer = await fetch("/upload", { method: "POST", body: form });
    return { status: answer.status, body: await answer.json() };
  },

  // An answer read while it comes.
  download: async (mebibytes) => {
    const answer = await fetch(`/download/${mebibytes}`);
    let bytes = 0;
    for (const reader = answer.body.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) return { status: answer.status, bytes };
      bytes += value.length;
    }
  },

  // A long poll that another request ends.
  poll: async () => {
    const waiting = fetch("/poll").then((answer) => answer.json());
    for (;;) {
      const { waiting: count } = await (await fetch("/poll", { method: "POST" })).json();
      if (count === 1) return waiting;
    }
  },
};
document.body.dataset.ready = "yes";
