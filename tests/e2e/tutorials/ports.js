// Pods have a network each, and these processes share one. So what the application knows as port 4040 and 8080 is elsewhere:
// PORTS maps the one to the other. Loaded before the application, which is not changed.
const ports = JSON.parse(process.env.PORTS);
const elsewhere = (port) => ports[port] ?? port;

const http = require('http');
const get = http.get;
http.get = (options, ...rest) => get({ ...options, port: elsewhere(options.port) }, ...rest);

const { Server } = require('net');
const listen = Server.prototype.listen;
Server.prototype.listen = function (port, ...rest) {
  this.once('listening', () => console.log(`listening on ${this.address().port}`));
  return listen.call(this, elsewhere(port), ...rest);
};
