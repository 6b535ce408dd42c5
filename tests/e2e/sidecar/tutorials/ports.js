// Maps the ports of the application to other ports, because these processes share one network and pods do not. PORTS is the map.
// Node loads this file before the application, which is not changed.
const ports = JSON.parse(process.env.PORTS);
const mapped = (port) => ports[port] ?? port;

const http = require('http');
const get = http.get;
http.get = (options, ...rest) => get({ ...options, port: mapped(options.port) }, ...rest);

const { Server } = require('net');
const listen = Server.prototype.listen;
Server.prototype.listen = function (port, ...rest) {
  this.once('listening', () => console.log(`listening on ${this.address().port}`));
  return listen.call(this, mapped(port), ...rest);
};
