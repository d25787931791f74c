export { CANARIES } from './canaries';
export { DrillStore } from './drill-store';
export { DrillService } from './drill.service';
