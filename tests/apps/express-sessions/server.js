// A till on Express: whoever signs in has a session in Redis, as connect-redis keeps it. REDIS is the port of the server.
import { createRequire } from "node:module";
import { join } from "node:path";

// The packages are installed elsewhere: NODE_MODULES_AT/package.json.
const require = createRequire(join(process.env.NODE_MODULES_AT, "package.json"));
const { RedisStore } = require("connect-redis");
const express = require("express");
const session = require("express-session");
const { createClient } = require("redis");

const client = createClient({ url: `redis://127.0.0.1:${process.env.REDIS}` });
await client.connect();

const app = express();
app.use(
  session({
    store: new RedisStore({ client }),
    secret: ["the secret of the till", "the one before"],
    resave: false,
    saveUninitialized: false,
  }),
);
// A visitor has a session and no name.
app.get("/basket", (request, response) => {
  request.session.basket = ["apples"];
  response.send("an apple");
});
app.get("/sign-in", (request, response, next) => {
  request.session.regenerate((error) => {
    if (error) return next(error);
    request.session.user = { id: 42, org: "acme", roles: ["cashier"], since: Date.now() };
    response.send("signed in");
  });
});
app.get("/sign-out", (request, response, next) => {
  request.session.destroy((error) => (error ? next(error) : response.send("signed out")));
});
app.get("/shop", (request, response) => {
  response.json({ session: request.session.user?.id ?? null, gateway: request.get("x-user-id") ?? null });
});

const server = app.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
