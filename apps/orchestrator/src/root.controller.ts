import { Controller, Get, Header } from '@nestjs/common';

const PAGE = `This is the HTTP interface of a Belay orchestrator.

The routes: URL/api/docs, and URL/api/openapi.json for programs. Neither needs a token, nor does URL/health.

Every other call needs a token:  Authorization: Bearer TOKEN
The token is BELAY_TOKEN, or the file "token" in the data directory.

  curl -H "Authorization: Bearer $(cat .belay/token)" URL/api/executions
  curl URL/health

On the command line: belay ps, belay --help
`;

/** Tells a person with a browser what this address is. It reveals nothing of the fleet. */
@Controller()
export class RootController {
  @Get()
  @Header('content-type', 'text/plain; charset=utf-8')
  page(): string {
    return PAGE;
  }
}
