// The application of the old tutorial: it asks the sidecar beside it every five seconds, and tells whoever visits it who is master.
// It knows nothing of Kubernetes, and nothing of Podium: GET http://localhost:4040/ answers {"name":"<leader>"}.

var http = require('http');

var master = {};

function ask() {
  var request = http.get({ host: 'localhost', port: 4040, path: '/' }, function (response) {
    var body = '';
    response.on('data', function (piece) { body += piece; });
    response.on('end', function () { master = JSON.parse(body); });
  });
  request.on('error', function (error) { console.log('the sidecar does not answer: ' + error.message); });
}

ask();
setInterval(ask, 5000);

http.createServer(function (request, response) {
  response.end('Master is ' + master.name);
}).listen(8080);
