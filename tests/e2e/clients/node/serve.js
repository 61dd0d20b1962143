// Answers each request with the name in its first argument and the path, on the port in its second, and says the path.
'use strict';
const [name, port] = process.argv.slice(2);
const server = require('http').createServer((request, answer) => {
  answer.end(`${name} ${request.url}`);
  console.log(request.url);
});
server.keepAliveTimeout = 1;
server.listen(Number(port));
