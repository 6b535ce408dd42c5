// The application of the old leader-elector tutorial. It asks its sidecar for the leader every five seconds and serves a page with
// the name. The sidecar answers GET http://localhost:4040/ with {"name":"<leader>"}.

var http = require('http');

var master = {};

function ask() {
  var request = http.get({ host: 'localhost', port: 4040, path: '/' }, function (response) {
    var body = '';
    response.on('data', function (piece) { body += piece; });
    response.on('end', function () { master = JSON.parse(body); });
  });
  request.on('error', function (error) { console.log('the sidecar is unavailable: ' + error.message); });
}

ask();
setInterval(ask, 5000);

http.createServer(function (request, response) {
  response.end('Master is ' + master.name);
}).listen(8080);
